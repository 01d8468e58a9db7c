set -eu
umask 022
export XDG_CACHE_HOME=/tmp
command -v apk > /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-$VERSION_ID"; } 2> /dev/null) || os=linux
cache=/run/pybuild/cache/$os-$(apk --print-arch)
mkdir -p "$cache"

apk info -v > /run/pybuild/report/before
apk --no-progress --cache-dir "$cache" --update-cache add "$@"
apk info -v > /run/pybuild/report/after
