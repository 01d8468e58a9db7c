"""What an image on which others build must hold, and what it must not."""


def test_it_is_bookworm(host):
    assert host.system_info.distribution == "debian"
    assert host.system_info.codename == "bookworm"


def test_nothing_is_left_of_apt(host):
    assert host.run("ls /var/cache/apt/archives/*.deb /var/cache/apt/*.bin").rc != 0
    kept = "find /var/lib/apt/lists /var/cache/ldconfig /var/log/apt -type f ! -name lock"
    assert host.check_output(kept) == ""


def test_no_log_grows(host):
    for log in ("/var/log/dpkg.log", "/var/log/alternatives.log"):
        assert host.file(log).linked_to == "/dev/null"


def test_no_service_is_started_while_packages_are_configured(host):
    assert host.run("/usr/sbin/policy-rc.d").rc == 101


def test_apt_asks_for_no_recommended_packages(host):
    assert 'APT::Install-Recommends "false";' in host.check_output("apt-config dump")


def test_the_archive_is_trusted_by_its_signature(host):
    sources = host.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/*").stdout
    assert "bookworm" in sources
    assert "trusted=yes" not in sources
