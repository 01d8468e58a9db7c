#!/bin/sh
# Puts $PORT and $NGINX_WORKERS where nginx reads them, then becomes the command.
set -e
envsubst '$PORT' < /etc/nginx/site.template > /etc/nginx/sites-enabled/default.new
mv /etc/nginx/sites-enabled/default.new /etc/nginx/sites-enabled/default
sed -i "s/^worker_processes .*/worker_processes $NGINX_WORKERS;/" /etc/nginx/nginx.conf
exec "$@"
