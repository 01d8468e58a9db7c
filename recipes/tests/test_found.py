"""The image of the Dockerfile, seen from inside."""


def test_the_pages_are_made_and_compressed(host):
    page = host.file("/var/www/site/index.html")
    assert page.contains("<h1>Our site</h1>")
    assert page.contains("<em>markdown</em>")
    assert page.user == "www-data"
    assert host.file("/var/www/site/about.html.gz").is_file


def test_what_made_the_pages_stayed_behind(host):
    assert not host.exists("python3")
    assert not host.file("/src").exists


def test_nginx_is_installed_and_logs_to_the_container(host):
    assert host.package("nginx-light").is_installed
    assert host.check_output("readlink /var/log/nginx/access.log") == "/dev/stdout"


def test_the_copied_script_can_be_run(host):
    assert host.file("/start.sh").mode == 0o755
