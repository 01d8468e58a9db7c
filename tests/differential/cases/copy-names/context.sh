touch 'with space' ümläut 日本語 'quote"' 'back\slash' 'semi;colon' ./-dash "$(printf 'new\nline')" "$(printf 'latin\351')"
n=$(printf '%0200d' 1); mkdir -p $n/$n/$n; echo deep >$n/$n/$n/$n
