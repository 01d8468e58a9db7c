mkdir dir; echo p >dir/program; chmod 4755 dir/program; ln -s program dir/link; echo a >a; chmod 0600 a
