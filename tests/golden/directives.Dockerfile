#Syntax = docker/dockerfile:1.7-labs  
#  CHECK=skip=JSONArgsRecommended;error=true
# escape = \
FROM debian
