/* The floor: the system calls that a broker can't do without, and nothing else.

   One poll for all sockets, one receive per ready socket, one send to each subscriber per receive.  It answers CONNECT
   and SUBSCRIBE without reading them, and passes all else on to everybody who subscribed, as it came.  It serves no
   client but the load generator's. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS_MAX = 65536, READY_MAX = 512, RECEIVE_BYTES = 65536 };

static int subscribers[FDS_MAX], subscriber_count;
static char data[RECEIVE_BYTES];

/* Blocking at the end: a closed loop never owes a reader more than the kernel takes. */
static void send_all(int fd, const char *from, ssize_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, from, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) from += sent, size -= sent;
    }
}

static void lost(int fd) {
    for (int i = 0; i < subscriber_count; i++)
        if (subscribers[i] == fd) subscribers[i--] = subscribers[--subscriber_count];
    close(fd);
}

static void received(int fd, ssize_t size) {
    switch ((unsigned char)data[0]) {
    case 0x10:
        send_all(fd, "\x20\x02\x00\x00", 4);
        return;
    case 0x82:
        subscribers[subscriber_count++] = fd;
        send_all(fd, "\x90\x03\x00\x01\x00", 5);
        return;
    default:
        for (int i = 0; i < subscriber_count; i++) send_all(subscribers[i], data, size);
    }
}

int main(int count, char **words) {
    if (count != 2) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listening, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 4096)) return 1;
    int all = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, ready[READY_MAX];
    epoll_ctl(all, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int found = epoll_wait(all, ready, READY_MAX, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd == listening) {
                event.data.fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
                if (event.data.fd >= 0) epoll_ctl(all, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            ssize_t size = recv(fd, data, sizeof data, 0);
            if (size > 0) received(fd, size);
            else if (size == 0 || errno != EAGAIN) lost(fd);
        }
    }
}
