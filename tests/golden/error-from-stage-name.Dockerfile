FROM debian AS 1build
