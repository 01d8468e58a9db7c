FROM debian
SHELL bash -c
