set -eu
umask 022
export XDG_CACHE_HOME=/tmp
python=$(command -v python3 || command -v python) || exit 69
"$python" -c 'import pip' 2> /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-$VERSION_ID"; } 2> /dev/null) || os=linux
export PIP_CACHE_DIR="/run/pybuild/cache/$os" PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1 PIP_PROGRESS_BAR=off
unset PIP_NO_CACHE_DIR
# Compiled modules are told apart by the hash of their source then, not by the time at which it was unpacked.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-315532800}"

"$python" -m pip list --format json > /run/pybuild/report/before
"$python" -m pip install "$@"
"$python" -m pip list --format json > /run/pybuild/report/after
