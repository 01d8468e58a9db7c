FROM debian build
