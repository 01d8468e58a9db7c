touch -d '2009-08-07 06:05:04.5' f
touch -d '1980-01-01 00:00:00' old
mkdir d; touch d/x; ln -s x link
touch -d '2002-01-01 00:00:00' d; touch -h -d '2003-01-01 00:00:00' link
