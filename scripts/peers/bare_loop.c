/* Not a chat, but the lower bound for any server: recv, then a loop over the sockets.

   It does what bare_loop.py does, without Python: it reads what one client sends, builds
   one string of bytes, and sends it to each socket of the room. It checks nothing, and
   one slow reader blocks it. Needs Linux for epoll. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (1 << 20)
#define EVENTS 256

static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

struct room {
    struct room *next;
    char path[256];
    int *members;
    int count, capacity;
};

struct client {
    int fd;
    struct room *room;
    char prefix[64];
    size_t prefix_size;
};

static struct room *rooms;
static unsigned char input[BUFFER];
static unsigned char output[2 * BUFFER];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* SHA-1 (RFC 3174) of a text of at most 119 bytes. */
static void sha1(const unsigned char *text, size_t size, unsigned char digest[20])
{
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[128] = {0};
    size_t whole = size + 9 > 64 ? 128 : 64;
    memcpy(padded, text, size);
    padded[size] = 0x80;
    padded[whole - 2] = (unsigned char)(size * 8 >> 8);
    padded[whole - 1] = (unsigned char)(size * 8);
    for (size_t at = 0; at < whole; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = padded + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) {
            uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
            w[i] = x << 1 | x >> 31;
        }
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) {
                f = (b & c) | (~b & d);
                k = 0x5A827999;
            } else if (i < 40) {
                f = b ^ c ^ d;
                k = 0x6ED9EBA1;
            } else if (i < 60) {
                f = (b & c) | (b & d) | (c & d);
                k = 0x8F1BBCDC;
            } else {
                f = b ^ c ^ d;
                k = 0xCA62C1D6;
            }
            uint32_t t = (a << 5 | a >> 27) + f + e + k + w[i];
            e = d;
            d = c;
            c = b << 30 | b >> 2;
            b = a;
            a = t;
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
        h[4] += e;
    }
    for (int i = 0; i < 20; i++)
        digest[i] = (unsigned char)(h[i / 4] >> (24 - i % 4 * 8));
}

static void accept_key(const char *key, size_t size, char out[29])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char text[119], digest[21] = {0};
    if (size > sizeof text - sizeof GUID)
        size = sizeof text - sizeof GUID;
    memcpy(text, key, size);
    memcpy(text + size, GUID, sizeof GUID - 1);
    sha1(text, size + sizeof GUID - 1, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t bits = digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++)
            out[4 * i + j] = letters[bits >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

static void send_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0)
            return;
        at += sent;
        size -= (size_t)sent;
    }
}

static struct room *room_of(const char *path, size_t size)
{
    struct room *room;
    if (size >= sizeof rooms->path)
        size = sizeof rooms->path - 1;
    for (room = rooms; room; room = room->next)
        if (strlen(room->path) == size && !memcmp(room->path, path, size))
            return room;
    room = calloc(1, sizeof *room);
    if (!room)
        fail("calloc");
    memcpy(room->path, path, size);
    room->next = rooms;
    return rooms = room;
}

static void open_client(int listening, int poll)
{
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    int on = 1, fd = accept(listening, (struct sockaddr *)&peer, &length);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ssize_t got = recv(fd, input, BUFFER - 1, 0);
    if (got <= 0) {
        close(fd);
        return;
    }
    input[got] = 0;
    char *head = (char *)input, *key = strstr(head, "Sec-WebSocket-Key: ");
    char *path = strchr(head, ' ');
    if (!key || !path) {
        close(fd);
        return;
    }
    key += 19;
    path++;
    char accept[29], answer[256];
    accept_key(key, strcspn(key, "\r"), accept);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        fail("calloc");
    client->fd = fd;
    client->room = room_of(path, strcspn(path, " "));
    client->prefix_size = (size_t)snprintf(client->prefix, sizeof client->prefix, "%s:%d: ",
                                           inet_ntoa(peer.sin_addr), ntohs(peer.sin_port));
    struct room *room = client->room;
    if (room->count == room->capacity) {
        room->capacity = room->capacity ? 2 * room->capacity : 4;
        room->members = realloc(room->members, (size_t)room->capacity * sizeof *room->members);
        if (!room->members)
            fail("realloc");
    }
    room->members[room->count++] = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    send_all(fd, answer, (size_t)size);
}

static void close_client(struct client *client)
{
    struct room *room = client->room;
    for (int i = 0; i < room->count; i++)
        if (room->members[i] == client->fd) {
            room->members[i] = room->members[--room->count];
            break;
        }
    close(client->fd);
    free(client);
}

static void serve_client(struct client *client)
{
    ssize_t got = recv(client->fd, input, BUFFER, 0);
    if (got <= 0) {
        close_client(client);
        return;
    }
    size_t end = (size_t)got, at = 0, out = 0;
    while (at < end) {
        /* Expects complete masked frames whose mask is zero, as the load sends them. */
        size_t size = input[at + 1] & 0x7F, begin = at + 6;
        if (size == 126) {
            size = (size_t)input[at + 2] << 8 | input[at + 3];
            begin = at + 8;
        } else if (size == 127) {
            size = 0;
            for (int i = 2; i < 10; i++)
                size = size << 8 | input[at + i];
            begin = at + 14;
        }
        while (end < begin + size) {
            got = recv(client->fd, input + end, BUFFER - end, 0);
            if (got <= 0) {
                close_client(client);
                return;
            }
            end += (size_t)got;
        }
        size_t payload = client->prefix_size + size;
        output[out++] = 0x81;
        if (payload < 126) {
            output[out++] = (unsigned char)payload;
        } else if (payload < 65536) {
            output[out++] = 126;
            output[out++] = (unsigned char)(payload >> 8);
            output[out++] = (unsigned char)payload;
        } else {
            output[out++] = 127;
            for (int shift = 56; shift >= 0; shift -= 8)
                output[out++] = (unsigned char)((uint64_t)payload >> shift);
        }
        memcpy(output + out, client->prefix, client->prefix_size);
        memcpy(output + out + client->prefix_size, input + begin, size);
        out += payload;
        at = begin + size;
    }
    for (int i = 0; i < client->room->count; i++)
        send_all(client->room->members[i], output, out);
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, length) ||
        listen(listening, 4096) || getsockname(listening, (struct sockaddr *)&address, &length))
        fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event);
    printf("listening on port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poll, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.ptr)
                serve_client(ready[i].data.ptr);
            else
                open_client(listening, poll);
        }
    }
}
