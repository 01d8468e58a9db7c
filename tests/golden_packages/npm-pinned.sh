set -eu
umask 022
export XDG_CACHE_HOME=/tmp
command -v npm > /dev/null || exit 69
export npm_config_cache=/run/pybuild/cache npm_config_logs_max=0 npm_config_update_notifier=false
export npm_config_fund=false npm_config_audit=false npm_config_progress=false npm_config_yes=true

npm ls --global --all --json > /run/pybuild/report/before || :
npm install --global "$@"
npm ls --global --all --json > /run/pybuild/report/after || :
