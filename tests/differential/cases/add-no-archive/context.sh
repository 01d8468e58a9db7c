echo 'no tar at all' >fake.tar; echo text >text; gzip -n text; echo file >file
mkdir dir; tar -cf dir/inner.tar --mtime=@1 --owner=0 --group=0 fake.tar
