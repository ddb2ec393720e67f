/*
 * A load of BOLT #8 sessions in one thread: pings out, pongs in, each opened and checked.
 *
 * Sessions come in three ways: accepted (a relay dials us, and the handshake is played back from
 * acts that were made once), handed over as a socket with its keys, or raw, where nothing is
 * sealed and the server sends back what it gets. Errors are counted and never repaired: a session
 * that fails a check is closed and reported as lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

#define EXPORT __attribute__((visibility("default")))

enum {
    ACT_SIZE = 50,
    ACT_THREE_SIZE = 66,
    INIT_MAX = 512,
    /* BOLT #1: type, number of pong bytes, number of ignored bytes, and those. */
    PING = 18,
    PONG = 19,
    PING_SIZE = 150,
    PONG_SIZE = 148,
    IGNORED = 144,
    PING_FRAME = PING_SIZE + LP_OVERHEAD,
    MAX_IN_FLIGHT = 64,
    READ_SIZE = 256 * 1024,
    EVENTS = 512,
    /* BOLT #8: two encryptions a frame, 1000 a key. */
    ROTATION = 1000,
};

typedef enum { ACT_ONE, ACT_THREE, LIVE, RAW, LOST } phase;

typedef struct {
    uint8_t key[LP_KEY_SIZE], chaining_key[LP_KEY_SIZE];
    uint64_t nonce;
} direction;

typedef struct {
    int fd;
    phase phase;
    unsigned goal;    /* pings to keep in flight */
    unsigned waiting; /* pings sent and unanswered */
    double asked;     /* when the last of them left */
    direction sending, receiving;
    uint8_t *pending; /* bytes of a partial frame, still sealed */
    size_t pending_size;
} session;

typedef struct {
    uint64_t answered;   /* pongs of the right length and tag, since the run began */
    uint64_t unanswered; /* pings without a pong when the run's grace was over */
    uint64_t lost;       /* sessions that ended or broke a rule, ever */
    double seconds;      /* from the first ping to the last pong */
    double worst;        /* the longest wait for a pong, in seconds */
} outcome;

/* What is played back to whoever dials us; all of it was made by Python. */
typedef struct {
    uint8_t act_one[ACT_SIZE], act_two[ACT_SIZE], act_three[ACT_THREE_SIZE];
    direction sending, receiving;
    uint8_t init[INIT_MAX];
    size_t init_size;
} playback;

typedef struct load {
    const lp_kernel *kernel;
    int epoll, listener;
    session *sessions;
    size_t count, capacity, live;
    uint64_t lost;
    playback playback;
    double time; /* when this turn began */
    /* of the run under way: */
    uint64_t answered, waiting;
    double worst;
    uint8_t read[READ_SIZE];
} load;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void advance(direction *direction)
{
    direction->nonce += 2;
    if (direction->nonce == ROTATION) {
        lp_rotate(direction->chaining_key, direction->key);
        direction->nonce = 0;
    }
}

static void lose(load *load, session *session)
{
    if (session->phase == LOST) return;
    if (session->phase == LIVE || session->phase == RAW) load->live--;
    load->lost++;
    session->phase = LOST;
    close(session->fd);
    free(session->pending);
    session->pending = NULL;
    session->pending_size = 0;
}

/* No more is ever in flight than a socket's buffer takes: less than all is the server's fault. */
static int send_all(load *load, session *session, const uint8_t *data, size_t size)
{
    if (send(session->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size) return 1;
    lose(load, session);
    return 0;
}

/* `message` lies at frame + LP_HEADER_SIZE. */
static void seal(load *load, session *session, uint8_t *frame, size_t length)
{
    load->kernel->seal(session->sending.key, session->sending.nonce, frame, length);
    advance(&session->sending);
}

static void ping(load *load, session *session, unsigned pings)
{
    static const uint8_t head[] = {0, PING, 0, IGNORED, 0, IGNORED};
    uint8_t frames[MAX_IN_FLIGHT * PING_FRAME];

    memset(frames, 0, pings * PING_FRAME);
    if (session->phase == LIVE)
        for (unsigned i = 0; i < pings; i++) {
            uint8_t *frame = frames + i * PING_FRAME;
            memcpy(frame + LP_HEADER_SIZE, head, sizeof head);
            seal(load, session, frame, PING_SIZE);
        }
    if (send_all(load, session, frames, pings * PING_FRAME)) {
        session->waiting += pings;
        session->asked = load->time;
        load->waiting += pings;
    }
}

static void answered(load *load, session *session, unsigned pongs)
{
    double wait = load->time - session->asked;

    if (wait > load->worst) load->worst = wait;
    session->waiting -= pongs;
    load->waiting -= pongs;
    load->answered += pongs;
}

static int answer_ping(load *load, session *session, const uint8_t *message, size_t length)
{
    uint8_t frame[LP_MAX_FRAME] = {0};
    size_t wanted = length < 6 ? LP_MAX_BODY : (size_t)message[2] << 8 | message[3];

    if (wanted + 4 > LP_MAX_BODY) return length >= 6;
    frame[LP_HEADER_SIZE + 1] = PONG;
    memcpy(frame + LP_HEADER_SIZE + 2, message + 2, 2);
    seal(load, session, frame, wanted + 4);
    return send_all(load, session, frame, wanted + 4 + LP_OVERHEAD);
}

/* Deal with one message; 0 where the peer broke a rule. */
static int take(load *load, session *session, const uint8_t *message, size_t length)
{
    if (length < 2) return 0;
    if (message[0] == 0 && message[1] == PONG) {
        if (length != PONG_SIZE) return length >= 4 && session->waiting == 0;
        if (session->waiting == 0) return 0;
        answered(load, session, 1);
        return 1;
    }
    if (message[0] == 0 && message[1] == PING) return answer_ping(load, session, message, length);
    return 1; /* init, and what else a node has to say */
}

/* The bytes used of `data`, or -1. A partial frame stays sealed, and is tried again as a whole. */
static ssize_t take_frames(load *load, session *session, uint8_t *data, size_t size)
{
    size_t at = 0, length = PONG_SIZE; /* the kernel is faster where it is told what comes */
    direction *receiving = &session->receiving;

    while (size - at >= LP_HEADER_SIZE) {
        int status =
            load->kernel->open(receiving->key, receiving->nonce, data + at, size - at, &length);
        if (status == LP_INCOMPLETE) break;
        if (status != LP_OPENED) return -1;
        advance(receiving);
        if (!take(load, session, data + at + LP_HEADER_SIZE, length)) return -1;
        at += length + LP_OVERHEAD;
    }
    return (ssize_t)at;
}

static ssize_t take_raw(load *load, session *session, size_t size)
{
    size_t echoes = size / PING_FRAME;

    if (echoes > session->waiting) return -1;
    if (echoes > 0) answered(load, session, (unsigned)echoes);
    return (ssize_t)(echoes * PING_FRAME);
}

static int finish(load *load, session *session)
{
    const playback *played = &load->playback;
    uint8_t frame[INIT_MAX + LP_OVERHEAD];

    session->sending = played->sending;
    session->receiving = played->receiving;
    session->phase = LIVE;
    load->live++;
    memcpy(frame + LP_HEADER_SIZE, played->init, played->init_size);
    seal(load, session, frame, played->init_size);
    return send_all(load, session, frame, played->init_size + LP_OVERHEAD);
}

/* The bytes used of `data`, or -1. */
static ssize_t take_bytes(load *load, session *session, uint8_t *data, size_t size)
{
    const playback *played = &load->playback;
    ssize_t used;

    switch (session->phase) {
    case ACT_ONE:
        if (size < ACT_SIZE) return 0;
        if (memcmp(data, played->act_one, ACT_SIZE) != 0) return -1;
        session->phase = ACT_THREE;
        return send_all(load, session, played->act_two, ACT_SIZE) ? ACT_SIZE : -1;
    case ACT_THREE:
        if (size < ACT_THREE_SIZE) return 0;
        if (memcmp(data, played->act_three, ACT_THREE_SIZE) != 0) return -1;
        if (!finish(load, session)) return -1;
        used = take_frames(load, session, data + ACT_THREE_SIZE, size - ACT_THREE_SIZE);
        return used < 0 ? -1 : used + ACT_THREE_SIZE;
    case LIVE:
        return take_frames(load, session, data, size);
    case RAW:
        return take_raw(load, session, size);
    default:
        return -1;
    }
}

static void receive(load *load, session *session)
{
    size_t size = session->pending_size;
    ssize_t got, used;

    if (session->phase == LOST) return;
    memcpy(load->read, session->pending, size);
    got = recv(session->fd, load->read + size, READ_SIZE - size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        lose(load, session);
        return;
    }
    size += (size_t)got;
    used = take_bytes(load, session, load->read, size);
    if (used < 0 || session->phase == LOST) {
        lose(load, session);
        return;
    }
    size -= (size_t)used;
    session->pending_size = size;
    if (size > 0) {
        session->pending = realloc(session->pending, size);
        if (session->pending == NULL) abort();
        memcpy(session->pending, load->read + used, size);
    }
    if (session->waiting < session->goal) ping(load, session, session->goal - session->waiting);
}

/* Sessions are named by index in epoll's data, for the array moves when it grows. */
static session *add(load *load, int fd, phase phase)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = load->count};
    session *session;
    int on = 1;

    if (load->count == load->capacity) {
        load->capacity = load->capacity ? 2 * load->capacity : 1024;
        load->sessions = realloc(load->sessions, load->capacity * sizeof *load->sessions);
        if (load->sessions == NULL) abort();
    }
    session = &load->sessions[load->count];
    memset(session, 0, sizeof *session);
    session->fd = fd;
    session->phase = phase;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return NULL;
    load->count++;
    if (phase == LIVE || phase == RAW) load->live++;
    return session;
}

static void accept_all(load *load)
{
    int fd;

    while ((fd = accept4(load->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        if (add(load, fd, ACT_ONE) == NULL) {
            close(fd);
            load->lost++;
        }
}

/* Wait at most so many milliseconds for events, and deal with them; 1: there may be more. */
EXPORT int load_turn(load *load, int milliseconds)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(load->epoll, events, EVENTS, milliseconds);

    load->time = now();
    for (int i = 0; i < ready; i++) {
        if (events[i].data.u64 == UINT64_MAX)
            accept_all(load);
        else
            receive(load, &load->sessions[events[i].data.u64]);
    }
    return ready == EVENTS;
}

EXPORT load *load_new(void)
{
    load *load = calloc(1, sizeof *load);

    if (load == NULL) return NULL;
    load->kernel = lp_kernel_find(NULL);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->listener = -1;
    if (load->epoll < 0 || load->kernel == NULL || !lp_kernel_self_test(load->kernel)) {
        free(load);
        return NULL;
    }
    return load;
}

/* Readable when load_turn has something to do. */
EXPORT int load_fd(const load *load) { return load->epoll; }

EXPORT size_t load_live(const load *load) { return load->live; }

EXPORT uint64_t load_lost(const load *load) { return load->lost; }

static void set(direction *direction, const uint8_t *key, const uint8_t *chaining_key)
{
    memcpy(direction->key, key, LP_KEY_SIZE);
    memcpy(direction->chaining_key, chaining_key, LP_KEY_SIZE);
    direction->nonce = 0;
}

/* Accept on this listening socket (non-blocking), and play back these acts; 0: it can't be. */
EXPORT int load_listen(load *load, int fd, const uint8_t *act_one, const uint8_t *act_two,
                       const uint8_t *act_three, const uint8_t *sending, const uint8_t *receiving,
                       const uint8_t *chaining_key, const uint8_t *init, size_t init_size)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    playback *played = &load->playback;

    if (init_size > INIT_MAX) return 0;
    memcpy(played->act_one, act_one, ACT_SIZE);
    memcpy(played->act_two, act_two, ACT_SIZE);
    memcpy(played->act_three, act_three, ACT_THREE_SIZE);
    set(&played->sending, sending, chaining_key);
    set(&played->receiving, receiving, chaining_key);
    memcpy(played->init, init, init_size);
    played->init_size = init_size;
    load->listener = fd;
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Take over a connected, non-blocking socket whose handshake is done, and send `init`. */
EXPORT int load_add(load *load, int fd, const uint8_t *sending, const uint8_t *receiving,
                    const uint8_t *chaining_key, const uint8_t *init, size_t init_size)
{
    uint8_t frame[INIT_MAX + LP_OVERHEAD];
    session *session;

    if (init_size > INIT_MAX || (session = add(load, fd, LIVE)) == NULL) return 0;
    set(&session->sending, sending, chaining_key);
    set(&session->receiving, receiving, chaining_key);
    memcpy(frame + LP_HEADER_SIZE, init, init_size);
    seal(load, session, frame, init_size);
    return send_all(load, session, frame, init_size + LP_OVERHEAD);
}

/* Take over a connected, non-blocking socket to a server that echoes. */
EXPORT int load_add_raw(load *load, int fd) { return add(load, fd, RAW) != NULL; }

/* Keep `in_flight` pings going on each of the first `sessions` live ones for so many seconds;
 * then wait for the pongs that are still owed, `grace` seconds at most. 0: there are too few. */
EXPORT int load_run(load *load, size_t sessions, unsigned in_flight, double seconds, double grace,
                    outcome *outcome)
{
    session *chosen = load->sessions, *end = chosen + load->count;
    double ends;

    if (in_flight == 0 || in_flight > MAX_IN_FLIGHT || sessions > load->live) return 0;
    load->answered = load->waiting = 0;
    load->worst = 0;
    outcome->seconds = load->time = now();
    ends = load->time + seconds;
    for (session *each = chosen; each < end; each++) each->waiting = 0;
    for (; chosen < end && sessions > 0; chosen++)
        if (chosen->phase == LIVE || chosen->phase == RAW) {
            chosen->goal = in_flight;
            ping(load, chosen, in_flight);
            sessions--;
        }
    while (load->time < ends) load_turn(load, 10);
    for (session *each = load->sessions; each < end; each++) each->goal = 0;
    for (ends += grace; load->waiting > 0 && load->time < ends;) load_turn(load, 10);
    outcome->seconds = load->time - outcome->seconds;
    outcome->answered = load->answered;
    outcome->unanswered = load->waiting;
    outcome->lost = load->lost;
    outcome->worst = load->worst;
    return 1;
}
