FROM debian
LABEL 名前="日本語 テキスト" emoji=🎉
ENV Ω=ω still="two words"
RUN echo “curly quotes”
COPY ü.txt /ö/
