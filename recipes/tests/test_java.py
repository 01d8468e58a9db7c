"""The image of the Java service, seen from inside: with its user, environment and folder."""


def test_it_runs_as_its_own_user(host):
    assert host.user().name == "notes"
    assert host.user().uid == 901
    assert host.user("notes").shell == "/usr/sbin/nologin"


def test_the_user_cannot_change_the_program(host):
    jar = host.file("/srv/notes.jar")
    assert jar.is_file
    assert (jar.user, jar.group, jar.mode) == ("root", "root", 0o644)
    assert host.run("test -w /srv/notes.jar -o -w /srv").rc != 0


def test_it_ships_no_compiler_and_no_sources(host):
    assert not host.exists("javac")
    assert not host.file("/build").exists


def test_it_stops_when_it_is_told_to(host):
    script = """
        PORT=0 java -jar /srv/notes.jar > /tmp/log & pid=$!
        for i in $(seq 100); do grep -q listening /tmp/log && break; sleep 0.1; done
        kill -TERM $pid
        wait $pid
    """
    assert host.run(script).rc == 128 + 15


def test_a_port_that_is_none_is_refused_with_a_message(host):
    refused = host.run("PORT=web java -jar /srv/notes.jar")
    assert refused.rc == 2
    assert refused.stderr == "notes: PORT is no port number: web\n"
