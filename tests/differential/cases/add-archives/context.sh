mkdir tree tree/sub
echo file >tree/sub/file; chmod 0640 tree/sub/file; chmod 02750 tree/sub
ln -s sub/file tree/link; ln tree/sub/file tree/hard
find tree -exec touch -h -d 2001-02-03 {} +
(cd tree && tar --owner=7 --group=8 -cf ../plain.tar sub link hard)

gzip -nk plain.tar; mv plain.tar.gz tar.gz
bzip2 -k plain.tar; mv plain.tar.bz2 tar.bz2
xz -k plain.tar; mv plain.tar.xz tar.xz
rm -r tree
