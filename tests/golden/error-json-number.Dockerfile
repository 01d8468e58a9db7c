FROM debian
CMD ["sleep", 10]
