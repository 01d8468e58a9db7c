for d in 1 2 3 4 5 6 7 8; do mkdir $d; for f in 1 2 3 4 5 6 7 8 9; do echo $d$f >$d/$f; done; done; head -c 2000000 /dev/zero >zeros; truncate -s 9M sparse
