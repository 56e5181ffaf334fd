/* A peer that speaks enough AMQP 0-9-1 to be a benchmark's other end, and costs the client nothing.
 *
 * It routes and stores nothing: a publish is counted, a consume is answered with a flood. What it says at the end of
 * each connection (one JSON line on stdout) is the yardstick for what a client claims to have done.
 *
 * - The virtual host picks the confirms: "/single" acknowledges every publish by itself, any other name acknowledges
 *   everything that one read brought with a single multiple acknowledgement, as a broker does that coalesces.
 * - The queue name picks the flood: consuming "flood-COUNT-SIZE" delivers COUNT messages of SIZE bytes, never more
 *   than the channel's prefetch unacknowledged. Every other queue is empty.
 * - It listens on a free loopback port, printed as the first line, and ends when its stdin closes, so that it cannot
 *   outlive whoever started it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_MAX = 131072, CHANNEL_MAX = 2047, IN_SIZE = 1 << 20, FLOOD_CHUNK = 256 * 1024 };
enum { METHOD = 1, HEADER = 2, BODY = 3, HEARTBEAT = 8, FRAME_END = 0xCE };

#define ID(class_id, method_id) ((uint32_t)(class_id) << 16 | (method_id))
enum {
    START = ID(10, 10), START_OK = ID(10, 11), TUNE = ID(10, 30), TUNE_OK = ID(10, 31), OPEN = ID(10, 40),
    OPEN_OK = ID(10, 41), CLOSE = ID(10, 50), CLOSE_OK = ID(10, 51),
    CHANNEL_OPEN = ID(20, 10), CHANNEL_OPEN_OK = ID(20, 11), CHANNEL_CLOSE = ID(20, 40), CHANNEL_CLOSE_OK = ID(20, 41),
    EXCHANGE_DECLARE = ID(40, 10), EXCHANGE_DECLARE_OK = ID(40, 11),
    QUEUE_DECLARE = ID(50, 10), QUEUE_DECLARE_OK = ID(50, 11), QUEUE_BIND = ID(50, 20), QUEUE_BIND_OK = ID(50, 21),
    QOS = ID(60, 10), QOS_OK = ID(60, 11), CONSUME = ID(60, 20), CONSUME_OK = ID(60, 21),
    CANCEL = ID(60, 30), CANCEL_OK = ID(60, 31), PUBLISH = ID(60, 40), DELIVER = ID(60, 60), ACK = ID(60, 80),
    CONFIRM_SELECT = ID(85, 10), CONFIRM_SELECT_OK = ID(85, 11),
};

struct buffer { uint8_t *data; size_t size, room; };

struct channel {
    int open, confirming, in_content, has_header;
    uint64_t body_left;
    uint64_t published, confirmed;                       /* delivery tags of the publisher's side */
    uint64_t prefetch, to_deliver, delivered, acked;     /* delivery tags of the consumer's side */
    uint8_t *settled;                                    /* by delivery tag: a second ack is the client's fault */
    uint64_t settled_up_to;                              /* where looking for unsettled ones begins */
    int no_ack;
    struct buffer message;                               /* one delivery, to be copied with its tag patched in */
    size_t tag_at;
};

struct connection {
    int fd, single, opened, closed;
    unsigned flooding;                                   /* channels that still have something to deliver */
    uint16_t dirty[CHANNEL_MAX + 1];                     /* channels with publishes to be confirmed after this read */
    unsigned dirty_count;
    const char *fault;
    struct buffer out;
    size_t sent;
    uint64_t published, published_bytes, confirmed, delivered, acked;
    struct channel *channels[CHANNEL_MAX + 1];
    uint8_t in[IN_SIZE];
};

/* ---- writing ---- */
static uint8_t *extend(struct buffer *b, size_t size) {
    if (b->size + size > b->room) {
        b->room = (b->size + size) * 2;
        if (!(b->data = realloc(b->data, b->room))) abort();
    }
    b->size += size;
    return b->data + b->size - size;
}
static void put_bytes(struct buffer *b, const void *data, size_t size) { memcpy(extend(b, size), data, size); }
static void put(struct buffer *b, uint64_t value, int bytes) {
    uint8_t *at = extend(b, (size_t)bytes);
    for (int i = bytes; i--; value >>= 8) at[i] = (uint8_t)value;
}
static void put_short(struct buffer *b, const char *text, size_t size) {
    put(b, size, 1);
    put_bytes(b, text, size);
}
static void put_long(struct buffer *b, const char *text) {
    put(b, strlen(text), 4);
    put_bytes(b, text, strlen(text));
}
static void patch(uint8_t *at, uint64_t value, int bytes) {
    for (int i = bytes; i--; value >>= 8) at[i] = (uint8_t)value;
}
static size_t begin(struct buffer *b, int type, unsigned channel) {
    put(b, (uint64_t)type, 1);
    put(b, channel, 2);
    put(b, 0, 4);
    return b->size;
}
static size_t begin_method(struct buffer *b, unsigned channel, uint32_t id) {
    size_t at = begin(b, METHOD, channel);
    put(b, id, 4);
    return at;
}
static void end(struct buffer *b, size_t at) {
    patch(b->data + at - 4, b->size - at, 4);
    put(b, FRAME_END, 1);
}
static void reply(struct connection *c, unsigned channel, uint32_t id) {
    end(&c->out, begin_method(&c->out, channel, id));
}
static void confirm(struct connection *c, unsigned number, struct channel *ch, uint64_t tag, int multiple) {
    size_t at = begin_method(&c->out, number, ACK);
    put(&c->out, tag, 8);
    put(&c->out, (uint64_t)multiple, 1);
    end(&c->out, at);
    c->confirmed += tag - ch->confirmed;
    ch->confirmed = tag;
}
static void fault(struct connection *c, unsigned code, const char *text, uint32_t id) {
    if (c->fault) return;
    c->fault = text;
    size_t at = begin_method(&c->out, 0, CLOSE);
    put(&c->out, code, 2);
    put_short(&c->out, text, strlen(text));
    put(&c->out, id, 4);
    end(&c->out, at);
}
static void start(struct connection *c) {
    static const char *able[] = {"publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked"};
    struct buffer *b = &c->out;
    size_t at = begin_method(b, 0, START);
    put(b, 0, 1);
    put(b, 9, 1);
    put(b, 0, 4);
    size_t table = b->size;
    put_short(b, "capabilities", 12);
    put(b, 'F', 1);
    put(b, 0, 4);
    size_t capabilities = b->size;
    for (size_t i = 0; i < sizeof able / sizeof *able; i++) {
        put_short(b, able[i], strlen(able[i]));
        put(b, 't', 1);
        put(b, 1, 1);
    }
    patch(b->data + capabilities - 4, b->size - capabilities, 4);
    put_short(b, "product", 7);
    put(b, 'S', 1);
    put_long(b, "sink");
    patch(b->data + table - 4, b->size - table, 4);
    put_long(b, "PLAIN AMQPLAIN");
    put_long(b, "en_US");
    end(b, at);
}

/* ---- reading: a cursor that stops at the frame's end ---- */
struct cursor { const uint8_t *at, *end; int short_of; };
static uint64_t get(struct cursor *r, int bytes) {
    uint64_t value = 0;
    if (r->end - r->at < bytes) { r->short_of = 1; return 0; }
    while (bytes--) value = value << 8 | *r->at++;
    return value;
}
static const char *get_short(struct cursor *r, size_t *size) {
    *size = get(r, 1);
    if ((size_t)(r->end - r->at) < *size) { r->short_of = 1; *size = 0; }
    r->at += *size;
    return (const char *)r->at - *size;
}

/* ---- the flood ---- */
static void prepare_flood(struct connection *c, unsigned number, struct channel *ch, const char *queue, size_t queue_size,
                          const char *tag, size_t tag_size) {
    unsigned long long count = 0, size = 0;
    char name[256] = {0};
    memcpy(name, queue, queue_size);
    if (sscanf(name, "flood-%llu-%llu", &count, &size) != 2 || !count) return;
    struct buffer *b = &ch->message;
    b->size = 0;
    size_t at = begin_method(b, number, DELIVER);
    put_short(b, tag, tag_size);
    ch->tag_at = b->size;
    put(b, 0, 8);
    put(b, 0, 1);
    put_short(b, "", 0);
    put_short(b, queue, queue_size);
    end(b, at);
    at = begin(b, HEADER, number);
    put(b, 60, 2);
    put(b, 0, 2);
    put(b, size, 8);
    put(b, 0x9000, 2);                                   /* content-type and delivery-mode */
    put_short(b, "application/octet-stream", 24);
    put(b, 1, 1);
    end(b, at);
    for (uint64_t left = size; left;) {
        uint64_t piece = left < FRAME_MAX - 8 ? left : FRAME_MAX - 8;
        at = begin(b, BODY, number);
        memset(extend(b, piece), 'x', piece);
        end(b, at);
        left -= piece;
    }
    if (!(ch->settled = realloc(ch->settled, ch->delivered + count + 1))) abort();
    memset(ch->settled + ch->delivered + 1, ch->no_ack, count);
    if (!ch->to_deliver) c->flooding++;
    ch->to_deliver = count;
}
static void flood(struct connection *c) {
    for (unsigned n = 1; n <= CHANNEL_MAX && c->flooding; n++) {
        struct channel *ch = c->channels[n];
        if (!ch || !ch->to_deliver) continue;
        while (ch->to_deliver && c->out.size < FLOOD_CHUNK
               && (ch->no_ack || !ch->prefetch || ch->delivered - ch->acked < ch->prefetch)) {
            uint8_t *at = extend(&c->out, ch->message.size);
            memcpy(at, ch->message.data, ch->message.size);
            patch(at + ch->tag_at, ++ch->delivered, 8);
            c->delivered++;
            if (!--ch->to_deliver) c->flooding--;
        }
    }
}

/* ---- one frame ---- */
static void published(struct connection *c, unsigned number, struct channel *ch) {
    ch->in_content = ch->has_header = 0;
    c->published++;
    ch->published++;
    if (!ch->confirming) return;
    if (c->single) confirm(c, number, ch, ch->published, 0);
    else if (ch->published == ch->confirmed + 1) c->dirty[c->dirty_count++] = (uint16_t)number;
}
static void acked(struct connection *c, struct channel *ch, uint64_t tag, int multiple) {
    uint64_t first = multiple ? ch->settled_up_to + 1 : tag, last = multiple && !tag ? ch->delivered : tag;
    if (last > ch->delivered || (!multiple && (!tag || ch->settled[tag]))) {
        fault(c, 406, "PRECONDITION_FAILED - unknown delivery tag", ACK);
        return;
    }
    for (uint64_t at = first; at <= last; at++) {
        if (ch->settled[at]) continue;
        ch->settled[at] = 1;
        ch->acked++;
        c->acked++;
    }
    if (multiple && last > ch->settled_up_to) ch->settled_up_to = last;
}
static void on_connection(struct connection *c, uint32_t id, struct cursor *r) {
    size_t at, size;
    switch (id) {
    case START_OK:
        at = begin_method(&c->out, 0, TUNE);
        put(&c->out, CHANNEL_MAX, 2);
        put(&c->out, FRAME_MAX, 4);
        put(&c->out, 0, 2);
        end(&c->out, at);
        return;
    case TUNE_OK: return;
    case OPEN: {
        const char *vhost = get_short(r, &size);
        c->single = size >= 6 && !memcmp(vhost + size - 6, "single", 6);
        c->opened = 1;
        at = begin_method(&c->out, 0, OPEN_OK);
        put_short(&c->out, "", 0);
        end(&c->out, at);
        return;
    }
    case CLOSE: c->closed = 1; reply(c, 0, CLOSE_OK); return;
    case CLOSE_OK: c->closed = 1; return;
    default: fault(c, 540, "NOT_IMPLEMENTED", id);
    }
}
static void on_channel(struct connection *c, unsigned number, struct channel *ch, uint32_t id, struct cursor *r) {
    size_t at, size, tag_size;
    const char *name, *tag;
    unsigned bits;
    switch (id) {
    case CHANNEL_OPEN:
        ch->open = 1;
        at = begin_method(&c->out, number, CHANNEL_OPEN_OK);
        put(&c->out, 0, 4);
        end(&c->out, at);
        return;
    case CHANNEL_CLOSE:
        if (ch->to_deliver) c->flooding--;
        free(ch->message.data);
        free(ch->settled);
        memset(ch, 0, sizeof *ch);
        reply(c, number, CHANNEL_CLOSE_OK);
        return;
    case EXCHANGE_DECLARE:
        get(r, 2);
        get_short(r, &size);
        get_short(r, &size);
        if (!(get(r, 1) & 16)) reply(c, number, EXCHANGE_DECLARE_OK);
        return;
    case QUEUE_DECLARE:
        get(r, 2);
        name = get_short(r, &size);
        if (get(r, 1) & 16) return;
        at = begin_method(&c->out, number, QUEUE_DECLARE_OK);
        if (size) put_short(&c->out, name, size); else put_short(&c->out, "sink.gen", 8);
        put(&c->out, c->published, 4);                   /* what arrived before it, to be checked by the client */
        put(&c->out, 0, 4);
        end(&c->out, at);
        return;
    case QUEUE_BIND:
        get(r, 2);
        for (int i = 0; i < 3; i++) get_short(r, &size);
        if (!(get(r, 1) & 1)) reply(c, number, QUEUE_BIND_OK);
        return;
    case QOS:
        get(r, 4);
        ch->prefetch = get(r, 2);
        reply(c, number, QOS_OK);
        return;
    case CONSUME:
        get(r, 2);
        name = get_short(r, &size);
        tag = get_short(r, &tag_size);
        if (!tag_size) { tag = "sink.tag"; tag_size = 8; }
        bits = (unsigned)get(r, 1);
        if (r->short_of) return;
        ch->no_ack = !!(bits & 2);
        if (!(bits & 8)) {
            at = begin_method(&c->out, number, CONSUME_OK);
            put_short(&c->out, tag, tag_size);
            end(&c->out, at);
        }
        prepare_flood(c, number, ch, name, size, tag, tag_size);
        return;
    case CANCEL:
        tag = get_short(r, &tag_size);
        if (ch->to_deliver) { c->flooding--; ch->to_deliver = 0; }
        if (get(r, 1) & 1) return;
        at = begin_method(&c->out, number, CANCEL_OK);
        put_short(&c->out, tag, tag_size);
        end(&c->out, at);
        return;
    case PUBLISH: ch->in_content = 1; return;
    case ACK: {
        uint64_t delivery_tag = get(r, 8);
        acked(c, ch, delivery_tag, (int)(get(r, 1) & 1));
        return;
    }
    case CONFIRM_SELECT:
        ch->confirming = 1;
        ch->published = ch->confirmed = 0;
        if (!(get(r, 1) & 1)) reply(c, number, CONFIRM_SELECT_OK);
        return;
    default: fault(c, 540, "NOT_IMPLEMENTED", id);
    }
}
static void on_frame(struct connection *c, int type, unsigned number, const uint8_t *payload, size_t size) {
    struct cursor r = {payload, payload + size, 0};
    struct channel *ch = NULL;
    if (type == HEARTBEAT) return;
    if (number && (number > CHANNEL_MAX || !c->opened)) { fault(c, 504, "CHANNEL_ERROR - no such channel", 0); return; }
    if (number && !(ch = c->channels[number]) && !(ch = c->channels[number] = calloc(1, sizeof *ch))) abort();
    if (type == METHOD) {
        uint32_t id = (uint32_t)get(&r, 4);
        if (!number) on_connection(c, id, &r);
        else if (ch->in_content) fault(c, 505, "UNEXPECTED_FRAME - a method inside a content", id);
        else if (ch->open || id == CHANNEL_OPEN) on_channel(c, number, ch, id, &r);
        else if (id != CHANNEL_CLOSE_OK) fault(c, 504, "CHANNEL_ERROR - channel is not open", id);
        if (r.short_of) fault(c, 502, "SYNTAX_ERROR - arguments end early", id);
    } else if (type == HEADER && ch && ch->in_content && !ch->has_header) {
        get(&r, 4);
        ch->body_left = get(&r, 8);
        ch->has_header = 1;
        c->published_bytes += ch->body_left;
        if (r.short_of) fault(c, 502, "SYNTAX_ERROR - header ends early", PUBLISH);
        else if (!ch->body_left) published(c, number, ch);
    } else if (type == BODY && ch && ch->has_header && size <= ch->body_left) {
        if (!(ch->body_left -= size)) published(c, number, ch);
    } else fault(c, 505, "UNEXPECTED_FRAME", 0);
}

/* ---- one connection ---- */
static size_t take_frames(struct connection *c, size_t size) {
    size_t at = 0;
    while (size - at >= 8 && !c->fault && !c->closed) {
        const uint8_t *f = c->in + at;
        size_t length = (size_t)f[3] << 24 | (size_t)f[4] << 16 | (size_t)f[5] << 8 | f[6];
        if (length > FRAME_MAX - 8) { fault(c, 501, "FRAME_ERROR - too large", 0); break; }
        if (size - at < length + 8) break;
        if (f[7 + length] != FRAME_END) { fault(c, 501, "FRAME_ERROR - no frame end", 0); break; }
        on_frame(c, f[0], (unsigned)f[1] << 8 | f[2], f + 7, length);
        at += length + 8;
    }
    for (unsigned i = 0; i < c->dirty_count; i++) {
        struct channel *ch = c->channels[c->dirty[i]];
        if (ch->published > ch->confirmed) confirm(c, c->dirty[i], ch, ch->published, ch->published > ch->confirmed + 1);
    }
    c->dirty_count = 0;
    return at;
}
static int send_some(struct connection *c) {
    while (c->sent < c->out.size) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.size - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        c->sent += (size_t)n;
    }
    c->sent = c->out.size = 0;
    return 1;
}
static void *serve(void *argument) {
    struct connection *c = argument;
    size_t size = 0;
    int greeted = 0;
    for (;;) {
        if (!send_some(c)) break;
        if ((c->closed || c->fault) && !c->out.size) break;
        if (!c->out.size) flood(c);
        struct pollfd p = {c->fd, (short)(POLLIN | (c->out.size ? POLLOUT : 0)), 0};
        if (poll(&p, 1, -1) < 0 && errno != EINTR) break;
        if (!(p.revents & (POLLIN | POLLHUP | POLLERR))) continue;
        ssize_t n = recv(c->fd, c->in + size, IN_SIZE - size, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) break;
        if (n < 0) continue;
        size += (size_t)n;
        if (!greeted) {
            if (size < 8) continue;
            if (memcmp(c->in, "AMQP\0\0\x09\x01", 8)) { c->fault = "not AMQP 0-9-1"; break; }
            greeted = 1;
            start(c);
            memmove(c->in, c->in + 8, size -= 8);
        }
        size_t at = take_frames(c, size);
        if (at) memmove(c->in, c->in + at, size -= at);
    }
    close(c->fd);
    printf("{\"published\": %llu, \"published_bytes\": %llu, \"confirmed\": %llu, \"delivered\": %llu, \"acked\": %llu, "
           "\"clean\": %s, \"fault\": \"%s\"}\n",
           (unsigned long long)c->published, (unsigned long long)c->published_bytes, (unsigned long long)c->confirmed,
           (unsigned long long)c->delivered, (unsigned long long)c->acked, c->closed && !c->fault ? "true" : "false",
           c->fault ? c->fault : "");
    fflush(stdout);
    for (int i = 0; i <= CHANNEL_MAX; i++)
        if (c->channels[i]) {
            free(c->channels[i]->message.data);
            free(c->channels[i]->settled);
            free(c->channels[i]);
        }
    free(c->out.data);
    free(c);
    return NULL;
}

static void *end_with_stdin(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0) {}
    exit(0);
    return unused;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    pthread_t thread;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 64)
        || getsockname(listener, (struct sockaddr *)&address, &length)) {
        perror("sink");
        return 1;
    }
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    if (pthread_create(&thread, NULL, end_with_stdin, NULL)) return 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        struct connection *c;
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (!(c = calloc(1, sizeof *c))) abort();
        c->fd = fd;
        if (pthread_create(&thread, NULL, serve, c)) abort();
        pthread_detach(thread);
    }
}
