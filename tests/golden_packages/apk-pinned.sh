set -eu
umask 022
export XDG_CACHE_HOME=/tmp
command -v apk > /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-$VERSION_ID"; } 2> /dev/null) || os=linux
cache=/run/pybuild/cache/$os-$(apk --print-arch)
mkdir -p "$cache"

apk info -v > /run/pybuild/report/before
# A constraint in the world would stay: there only what the recipe asks for may stand.
cp /etc/apk/world /run/pybuild/report/world
apk --no-progress --cache-dir "$cache" --update-cache add $PYBUILD_PINNED
cat /run/pybuild/report/world > /etc/apk/world
apk --no-progress --cache-dir "$cache" --no-network add "$@"
apk info -v > /run/pybuild/report/after
