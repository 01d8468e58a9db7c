set -eu
umask 022
export XDG_CACHE_HOME=/tmp
command -v apt-get > /dev/null || exit 69
os=$({ . /etc/os-release && echo "$ID-${VERSION_ID:-$VERSION_CODENAME}"; } 2> /dev/null) || os=linux
lists=/run/pybuild/cache/$os
archives=/run/pybuild/cache/archives
mkdir -p "$lists/partial" "$archives/partial"
export DEBIAN_FRONTEND=noninteractive

apt() {
    apt-get -q -y \
        -o Dir::State::Lists="$lists" \
        -o Dir::Cache::Archives="$archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o Dir::Log::History=/dev/null -o Dir::Log::Terminal=/dev/null -o Dir::Log::Planner=/dev/null \
        -o APT::Keep-Downloaded-Packages=true \
        -o APT::Install-Recommends=false -o APT::Install-Suggests=false \
        -o APT::Update::Error-Mode=any \
        -o Acquire::Languages=none -o Acquire::Retries=3 \
        ${SSL_CERT_FILE:+-o Acquire::https::CaInfo="$SSL_CERT_FILE"} \
        -o Dpkg::Use-Pty=false -o Dpkg::Options::=--log=/dev/null -o Dpkg::Options::=--force-unsafe-io \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        "$@"
}
query() {
    dpkg --print-architecture
    dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Architecture}\t${Version}\n'
}

apt update
query > /run/pybuild/report/before
apt --allow-downgrades install -- "$@"
query > /run/pybuild/report/after
