FROM debian
EXPOSE 80/tpc
