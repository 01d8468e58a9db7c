FROM debian:12
CMD ['single', 'quotes']
CMD ["trailing", "text"] here
CMD ["unclosed", "array"
CMD [ -n "$HOME" ]
CMD []
CMD [ "a",	"b" ]
CMD ["\u00e9\ud83c\udf89 \"q\" \\ \t"]
