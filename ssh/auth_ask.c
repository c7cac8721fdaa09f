/* The methods that ask: password (RFC 4252 §8) and keyboard-interactive (RFC 4256). An answer that has let another
 * connection of the program in is given again before the person is asked. */
#include "engine/log.h"
#include "ssh/auth_internal.h"
#include "ssh/prompt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int call_password(ssh_session ssh, void *arg) {
    return ssh_userauth_password(ssh, NULL, arg);
}

/* 0 and a secret in answer. ERR_ACCESS: no answer is to be had; ERR_CANCELED. */
static int ask(const char *text, enum prompt_echo echo, char *answer) {
    int err = prompt_ask(text, echo, answer, SECRET_BYTES);
    if (err == ERR_UNSUPPORTED)
        log_info("no terminal to ask on: %s", text);
    return err == ERR_UNSUPPORTED || err == ERR_CLOSED ? ERR_ACCESS : err;
}

static int ask_password(struct auth *auth, char *password) {
    char *text = NULL;
    if (asprintf(&text, "%s@%s's password: ", auth->options->user, auth->options->hostname) < 0)
        return ERR_NOMEM;
    int err = ask(text, PROMPT_HIDDEN, password);
    free(text);
    return err;
}

/* ssh's words between two questions. */
static void say_again(uint32_t tries) {
    if (tries > 0)
        log_info("Permission denied, please try again.");
}

static int try_password(struct auth *auth, enum auth_answer *answer) {
    char *password = secret_new();
    if (!password)
        return ERR_NOMEM;
    say_again(auth->password_tries++);
    int err = ask_password(auth, password);
    if (!err)
        err = auth_call(auth, call_password, password, answer);
    if (!err && *answer != AUTH_DENIED)
        secrets_keep_password(auth->secrets, password);
    else
        secret_free(password);
    return err;
}

int auth_password(struct auth *auth, enum auth_answer *answer) {
    *answer = AUTH_DENIED;
    if (auth->secrets->password) {
        int err = auth_call(auth, call_password, auth->secrets->password, answer);
        if (err || *answer != AUTH_DENIED)
            return err;
        secrets_keep_password(auth->secrets, NULL);
    }
    while (auth->password_tries < auth->options->number_of_password_prompts) {
        int err = try_password(auth, answer);
        if (err == ERR_ACCESS)
            return 0;
        if (err || *answer != AUTH_DENIED)
            return err;
    }
    return 0;
}

static int call_kbdint(ssh_session ssh, void *arg) {
    (void)arg;
    return ssh_userauth_kbdint(ssh, NULL, NULL);
}

static void show_text(const char *text) {
    char safe[1024];
    if (text && *text)
        log_info("%s", log_safe(safe, sizeof safe, text, strlen(text)));
}

/* One conversation (attempt) with the server. */
struct talk {
    unsigned known;  /* answers of earlier connections that may be given: those before this index, each once */
    unsigned given;  /* bit i: the i-th was */
    bool questioned; /* the server has asked for something */
};

static const char *known_answer(const struct auth *auth, struct talk *talk, const char *prompt) {
    for (unsigned i = 0; i < talk->known; i++) {
        const struct secrets_answer *known = &auth->secrets->answers[i];
        if (talk->given >> i & 1 || strcmp(known->prompt, prompt) != 0)
            continue;
        talk->given |= 1u << i;
        return known->answer;
    }
    return NULL;
}

static int ask_question(struct auth *auth, const char *prompt, bool shown, char *answer) {
    char safe[1024], *text = NULL;
    if (asprintf(&text, "(%s@%s) %s", auth->options->user, auth->options->hostname,
                 log_safe(safe, sizeof safe, prompt, strlen(prompt))) < 0)
        return ERR_NOMEM;
    int err = ask(text, shown ? PROMPT_SHOWN : PROMPT_HIDDEN, answer);
    free(text);
    return err;
}

static int set_answer(ssh_session ssh, unsigned index, const char *answer) {
    return ssh_userauth_kbdint_setanswer(ssh, index, answer) < 0 ? ERR_NOMEM : 0;
}

static int answer_one(struct auth *auth, struct talk *talk, ssh_session ssh, unsigned index) {
    char shown = 0;
    const char *prompt = ssh_userauth_kbdint_getprompt(ssh, index, &shown);
    if (!prompt)
        return ERR_PROTOCOL;
    const char *known = known_answer(auth, talk, prompt);
    if (known)
        return set_answer(ssh, index, known);
    char *answer = secret_new();
    if (!answer)
        return ERR_NOMEM;
    int err = ask_question(auth, prompt, shown, answer);
    if (!err)
        err = set_answer(ssh, index, answer);
    if (err)
        secret_free(answer);
    else
        secrets_keep_answer(auth->secrets, prompt, answer);
    return err;
}

/* These calls of libssh only look at what has been received. */
static int answer_all(struct auth *auth, struct talk *talk) {
    ssh_session ssh = auth->link->made->speaker.ssh;
    int count = ssh_userauth_kbdint_getnprompts(ssh);
    show_text(ssh_userauth_kbdint_getname(ssh));
    show_text(ssh_userauth_kbdint_getinstruction(ssh));
    for (int i = 0; i < count; i++) {
        talk->questioned = true;
        int err = answer_one(auth, talk, ssh, (unsigned)i);
        if (err)
            return err;
    }
    return 0;
}

static int converse(struct auth *auth, struct talk *talk, enum auth_answer *answer) {
    for (;;) {
        int err = auth_call(auth, call_kbdint, NULL, answer);
        if (err || *answer != AUTH_INFO)
            return err;
        err = answer_all(auth, talk);
        if (err)
            return err;
    }
}

int auth_kbdint(struct auth *auth, enum auth_answer *answer) {
    *answer = AUTH_DENIED;
    bool replay = auth->secrets->answers_count > 0;
    while (replay || auth->kbdint_tries < auth->options->number_of_password_prompts) {
        struct talk talk = {.known = auth->secrets->answers_count};
        if (!replay)
            say_again(auth->kbdint_tries++);
        replay = false;
        int err = converse(auth, &talk, answer);
        if (!err && *answer != AUTH_DENIED)
            return 0;
        secrets_forget_answers(auth->secrets);
        *answer = AUTH_DENIED;
        if (err)
            return err == ERR_ACCESS ? 0 : err;
        if (!talk.questioned)
            return 0; /* it refuses without a question: asking again would not help */
    }
    return 0;
}
