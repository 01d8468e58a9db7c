mkdir tree tree/sub
echo file >tree/sub/file; chmod 0640 tree/sub/file; chmod 02750 tree/sub
ln -s sub/file tree/link; ln tree/sub/file tree/hard
find tree -exec touch -h -d 2001-02-03 {} +
(cd tree && tar --owner=7 --group=8 -cf ../plain.tar sub link hard)
rm -r tree
