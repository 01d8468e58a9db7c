/* A web server in one static binary: it answers every request with a greeting. No library but libc, no file but itself.
 *
 *     hello             serve on $PORT (8080 unless set), one process a connection
 *     hello --probe     ask the server of this machine: the image's health check
 *     hello --self-test serve on a free port, ask that, and say whether the answer was right
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char GREETING[] = "Hello from a file system that holds one file.\n";

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static unsigned short port_of_environment(void)
{
    const char *text = getenv("PORT");
    char *end;
    long port;

    if (text == NULL || *text == '\0')
        return 8080;
    port = strtol(text, &end, 10);
    if (*end != '\0' || port < 0 || port > 65535) {
        fprintf(stderr, "hello: PORT is no port number: %s\n", text);
        exit(2);
    }
    return (unsigned short)port;
}

/* A listening socket on *port; 0 is replaced by what the kernel picked. */
static int listen_on(unsigned short *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t length = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind");
    if (listen(fd, 64) < 0)
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        die("getsockname");
    *port = ntohs(address.sin_port);
    return fd;
}

/* Read the request's head (up to the empty line), then answer. A client that dawdles is cut off. */
static void answer(int fd)
{
    char head[8192];
    size_t have = 0;
    ssize_t got;
    struct timeval patience = {.tv_sec = 5};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (have < sizeof head - 1) {
        got = read(fd, head + have, sizeof head - 1 - have);
        if (got <= 0)
            return;
        have += (size_t)got;
        head[have] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL) {
            dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                        "Connection: close\r\n\r\n%s", sizeof GREETING - 1, strncmp(head, "HEAD ", 5) == 0 ? "" : GREETING);
            return;
        }
    }
    dprintf(fd, "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static void serve(int listener)
{
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            continue;
        if (fork() == 0) {
            close(listener);
            answer(fd);
            exit(0);
        }
        close(fd);
    }
}

/* Ask 127.0.0.1:port. Returns 0 if the greeting came back. */
static int probe(unsigned short port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char reply[4096];
    size_t have = 0;
    ssize_t got;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("hello: probe");
        return 1;
    }
    dprintf(fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    while (have < sizeof reply - 1 && (got = read(fd, reply + have, sizeof reply - 1 - have)) > 0)
        have += (size_t)got;
    reply[have] = '\0';
    close(fd);
    return strncmp(reply, "HTTP/1.1 200 ", 13) == 0 && strstr(reply, GREETING) != NULL ? 0 : 1;
}

static void stop(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

int main(int argc, char **argv)
{
    unsigned short port = port_of_environment();
    int listener;

    if (argc == 2 && strcmp(argv[1], "--probe") == 0)
        return probe(port);
    if (argc == 2 && strcmp(argv[1], "--self-test") == 0) {
        pid_t server;
        int result;

        port = 0;
        listener = listen_on(&port);
        server = fork();
        if (server == 0)
            serve(listener);
        result = probe(port);
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
        puts(result == 0 ? "ok" : "FAILED");
        return result;
    }
    if (argc > 1) {
        fprintf(stderr, "usage: hello [--probe | --self-test]\n");
        return 2;
    }
    signal(SIGTERM, stop); /* as process 1 of a container the default would be to ignore it */
    listener = listen_on(&port);
    printf("hello: listening on port %u\n", port);
    fflush(stdout);
    serve(listener);
}
