"""The Java that applications build on."""


def test_it_is_java_17(host):
    assert host.package("openjdk-17-jre-headless").is_installed
    assert 'openjdk version "17.' in host.run("java -version").stderr


def test_java_home_is_where_java_is(host):
    home = host.check_output("echo $JAVA_HOME")
    assert host.file(f"{home}/bin/java").is_file
    assert host.check_output("test /usr/bin/java -ef $JAVA_HOME/bin/java && echo same") == "same"


def test_there_is_no_compiler(host):
    assert not host.exists("javac")


def test_java_trusts_what_debian_trusts(host):
    """As many certificates in Java's keystore as in the system's bundle, and none with a time in it."""
    listed = host.check_output("keytool -list -cacerts -storepass changeit").splitlines()
    entries = [line for line in listed if "trustedCertEntry" in line]
    bundle = host.file("/etc/ssl/certs/ca-certificates.crt").content_string
    assert len(entries) == bundle.count("BEGIN CERTIFICATE") > 100
    assert "Keystore type: PKCS12" in listed
