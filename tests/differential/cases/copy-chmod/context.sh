ln -s x dir/link
