FROM debian
RUN echo "hello" && exit 0
RUN ["/bin/echo", "a\tb", "\u00e9 \"q\"", ""]
RUN [ "spaced" , "array" ]
RUN ['single', 'quotes']
RUN ["trailing"] text
RUN ["unclosed"
RUN [ -f /etc/passwd ]
RUN --network=none --security=sandbox -- --not-a-flag
