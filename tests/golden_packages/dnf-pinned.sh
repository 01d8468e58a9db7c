set -eu
umask 022
export XDG_CACHE_HOME=/tmp
dnf=$(command -v dnf || command -v microdnf) || exit 69
query() {
    rpm -qa --qf '%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n'
}

query > /run/pybuild/report/before
"$dnf" -y \
    --setopt=install_weak_deps=0 --setopt=keepcache=1 --setopt=logdir=/tmp \
    ${SSL_CERT_FILE:+--setopt=sslcacert="$SSL_CERT_FILE"} \
    install "$@"
query > /run/pybuild/report/after
