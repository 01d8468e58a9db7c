echo x >file; mkdir dir; echo y >dir/x; ln -s file tofile; ln -s dir todir; ln -s dir way
ln -s x dir/relative; ln -s /etc/passwd dir/absolute; ln -s ../../../outside dir/up; ln -s nowhere dir/dangling
ln -s file matchlink
