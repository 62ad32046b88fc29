/* A server of one answer: what a C program needs of a compiler and a C library. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    static const char answer[] = "HTTP/1.0 200 OK\r\n\r\n{\"status\":\"ok\",\"service\":\"c\"}\n";
    const char *port = getenv("PORT");
    struct sockaddr_in address = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((unsigned short)(port ? atoi(port) : 8080));
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8))
        return 1;
    for (;;) {
        char request[1024];
        int peer = accept(listener, 0, 0);
        if (read(peer, request, sizeof request) > 0)
            write(peer, answer, strlen(answer));
        close(peer);
    }
}
