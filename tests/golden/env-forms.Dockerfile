FROM debian
ENV A=1 B="two words" C='$A' D=a\ b E=$A F="a\"b" G=
ENV OLD form with  spaces and "quotes"
ENV K	v
ENV A=1 \
    B=2
ENV "Q R"=x
ENV X=a\