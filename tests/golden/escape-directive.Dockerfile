# escape=`

FROM debian
RUN echo one `
  two
ENV DIR=c:\temp` QUOTED=`"x`"
COPY C:\from\ C:\to\
