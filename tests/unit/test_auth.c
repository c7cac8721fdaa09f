/* The client's authentication against a server of libssh: every method, what is asked and how often. */
#include "auth_server.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct place place;
static struct secrets *secrets;
static struct server server;

static void set_up(void) {
    place_make(&place);
    server = (struct server){.password = "right", .connections_max = 8};
    cr_assert_eq(secrets_create(&secrets), 0);
}

static void tear_down(void) {
    server_end(&server);
    secrets_wipe(secrets);
    place_remove(&place);
}

static void place_identity(const char *name) {
    char path[96];
    place_path(&place, path, name);
    place.identities[place.options.identity_files.count++] = strdup(path);
}

static int shake(void) {
    struct authenticated *made;
    int err = handshake_client(&place.options, secrets, &made);
    cr_assert_eq(made != NULL, err == 0);
    authenticated_destroy(made);
    return err;
}

TestSuite(auth, .init = set_up, .fini = tear_down, .timeout = 60);

Test(auth, password) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.passwords, 1);
    cr_assert_str_eq(file_get(place.asked), "someone@127.0.0.1's password: |");
}

Test(auth, password_third_try) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "wrong\nworse\nright\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.passwords, 3);
    cr_assert_eq(file_count(place.log, "please try again"), 2);
}

Test(auth, password_never) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "a\nb\nc\nright\n", 0600);
    cr_assert_eq(shake(), ERR_AUTH);
    cr_assert_eq(server.passwords, 3, "NumberOfPasswordPrompts");
    cr_assert_eq(file_count(place.log, "leat: someone@127.0.0.1: Permission denied (password).\n"), 1);
}

Test(auth, password_dismissed) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "-\nright\n", 0600);
    cr_assert_eq(shake(), ERR_AUTH);
    cr_assert_eq(server.passwords, 0);
}

Test(auth, password_once_for_all_connections) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "right\n", 0600);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(shake(), 0);
    cr_assert_eq(server.passwords, 3);
    cr_assert_eq(file_count(place.asked, "password"), 1);
}

Test(auth, remembered_password_that_has_changed_is_asked_for) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "right\nother\n", 0600);
    cr_assert_eq(shake(), 0);
    server.password = "other";
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "password"), 2);
}

Test(auth, batch_mode_asks_nothing) {
    server.methods = SSH_AUTH_METHOD_PASSWORD | SSH_AUTH_METHOD_INTERACTIVE;
    server_begin(&server, &place);
    place.options.batch_mode = true;
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), ERR_AUTH);
    cr_assert_str_eq(file_get(place.asked), "");
    cr_assert_eq(file_count(place.log, "Permission denied (password,keyboard-interactive)."), 1);
}

Test(auth, keyboard_interactive) {
    server.methods = SSH_AUTH_METHOD_INTERACTIVE | SSH_AUTH_METHOD_PASSWORD;
    server.code = "123";
    server_begin(&server, &place);
    file_put(place.answers, "right\n123\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.talks, 1);
    cr_assert_eq(server.passwords, 0, "keyboard-interactive comes before password");
    cr_assert_str_eq(file_get(place.asked), "(someone@127.0.0.1) Password: |(someone@127.0.0.1) Code\\001: |");
    cr_assert_eq(file_count(place.log, "leat: Say who you are\n"), 1);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "|"), 2, "the second connection asks nothing");
}

Test(auth, keyboard_interactive_again) {
    server.methods = SSH_AUTH_METHOD_INTERACTIVE;
    server_begin(&server, &place);
    file_put(place.answers, "wrong\nright\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.talks, 2);
}

Test(auth, keyboard_interactive_one_time_code_is_asked_again) {
    server.methods = SSH_AUTH_METHOD_INTERACTIVE;
    server.code = "1";
    server_begin(&server, &place);
    file_put(place.answers, "right\n1\nright\n2\n", 0600);
    cr_assert_eq(shake(), 0);
    server.code = "2";
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.talks, 3, "the old answers are tried once");
}

Test(auth, keyboard_interactive_refused_without_question_falls_to_password) {
    server.methods = SSH_AUTH_METHOD_INTERACTIVE | SSH_AUTH_METHOD_PASSWORD;
    server.questions_without_answer = true;
    server_begin(&server, &place);
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.passwords, 1);
}

Test(auth, preferred_authentications) {
    server.methods = SSH_AUTH_METHOD_INTERACTIVE | SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    place.options.preferred_authentications = (char[]){"gssapi-with-mic,password,keyboard-interactive"};
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.talks, 0);
    cr_assert_eq(server.passwords, 1);
}

Test(auth, key_file) {
    char *base64 = make_key(&place, "good", NULL), *other = make_key(&place, "other", NULL);
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = base64;
    server_begin(&server, &place);
    place_identity("other");
    place_identity("good");
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.offers, 3, "other, good, and good's signature");
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.offers, 5, "what worked goes first");
    ssh_string_free_char(base64);
    ssh_string_free_char(other);
}

Test(auth, key_with_passphrase) {
    char *base64 = make_key(&place, "locked", "open sesame");
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = base64;
    server_begin(&server, &place);
    place_identity("locked");
    file_put(place.answers, "sesame\nopen sesame\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "Enter passphrase for key '"), 2);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "|"), 2, "unlocked once for all connections");
    ssh_string_free_char(base64);
}

/* One more connection, with nobody there. */
static int shake_unattended(void) {
    struct authenticated *made;
    secrets_strip(secrets);
    file_put(place.answers, "right\nright\nopen sesame\n", 0600); /* if it asked after all */
    file_put(place.asked, "", 0600);
    int err = handshake_unattended(&place.options, secrets, &made);
    cr_assert_eq(made != NULL, err == 0);
    authenticated_destroy(made);
    cr_assert_str_eq(file_get(place.asked), "");
    return err;
}

Test(auth, unattended_with_a_key) {
    char *base64 = make_key(&place, "good", NULL);
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = base64;
    server_begin(&server, &place);
    place_identity("good");
    cr_assert_eq(shake(), 0);
    cr_assert_null(secrets_person_needed(secrets));
    cr_assert_eq(shake_unattended(), 0);
    ssh_string_free_char(base64);
}

Test(auth, unattended_without_the_passphrase) {
    char *base64 = make_key(&place, "locked", "open sesame");
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = base64;
    server_begin(&server, &place);
    place_identity("locked");
    file_put(place.answers, "open sesame\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_not_null(secrets_person_needed(secrets));
    cr_assert_eq(shake_unattended(), ERR_AUTH);
    ssh_string_free_char(base64);
}

Test(auth, unattended_without_the_password) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server_begin(&server, &place);
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_not_null(secrets_person_needed(secrets));
    cr_assert_eq(shake_unattended(), ERR_AUTH);
}

Test(auth, unattended_without_the_answers) {
    server.methods = SSH_AUTH_METHOD_INTERACTIVE;
    server_begin(&server, &place);
    file_put(place.answers, "right\nright\nright\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_not_null(secrets_person_needed(secrets));
    cr_assert_eq(shake_unattended(), ERR_AUTH);
}

Test(auth, passphrase_is_not_asked_for_a_key_the_server_does_not_know) {
    ssh_string_free_char(make_key(&place, "locked", "open sesame"));
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server_begin(&server, &place);
    place_identity("locked");
    file_put(place.answers, "open sesame\n", 0600);
    cr_assert_eq(shake(), ERR_AUTH);
    cr_assert_eq(server.offers, 1);
    cr_assert_str_eq(file_get(place.asked), "");
}

Test(auth, key_that_others_can_read_is_ignored) {
    char path[96], *base64 = make_key(&place, "loose", NULL);
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = base64;
    server_begin(&server, &place);
    place_identity("loose");
    place_path(&place, path, "loose");
    cr_assert_eq(chmod(path, 0640), 0);
    cr_assert_eq(shake(), ERR_AUTH);
    cr_assert_eq(file_count(place.log, "UNPROTECTED PRIVATE KEY FILE"), 1);
    cr_assert_eq(chmod(path, 0600), 0);
    cr_assert_eq(shake(), 0);
    ssh_string_free_char(base64);
}

Test(auth, missing_and_broken_key_files_are_passed_over) {
    char path[96], *base64 = make_key(&place, "good", NULL);
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = base64;
    server_begin(&server, &place);
    place_path(&place, path, "broken");
    file_put(path, "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----\n", 0600);
    place_identity("nowhere");
    place_identity("broken");
    place_identity("good");
    cr_assert_eq(shake(), 0);
    ssh_string_free_char(base64);
}

Test(auth, key_then_password) {
    char *base64 = make_key(&place, "good", NULL);
    server.methods = SSH_AUTH_METHOD_PUBLICKEY | SSH_AUTH_METHOD_PASSWORD;
    server.key_base64 = base64;
    server.key_then_password = true;
    server_begin(&server, &place);
    place_identity("good");
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(server.passwords, 1);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "|"), 1);
    ssh_string_free_char(base64);
}

Test(auth, server_that_has_enough_of_it) {
    server.methods = SSH_AUTH_METHOD_PASSWORD;
    server.failures_max = 2; /* "none" and one password */
    server_begin(&server, &place);
    file_put(place.answers, "a\nb\nc\n", 0600);
    cr_assert_eq(shake(), ERR_AUTH);
    cr_assert_eq(file_count(place.log, "leat: someone@127.0.0.1: Permission denied: "), 1);
    cr_assert_eq(file_count(place.log, "That was once too often"), 1);
}

/* An agent of OpenSSH, with the keys that are named; its process, to be ended by the caller. */
static pid_t start_agent(const char *const names[], unsigned count) {
    char socket_path[96], key[96], command[256];
    place_path(&place, socket_path, "agent");
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that fails leaves none behind */
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDOUT_FILENO); /* it prints its address */
        execlp("ssh-agent", "ssh-agent", "-D", "-a", socket_path, (char *)NULL);
        _exit(127);
    }
    setenv("SSH_AUTH_SOCK", socket_path, 1);
    for (unsigned i = 0; i < count; i++) {
        place_path(&place, key, names[i]);
        /* the agent is ready when ssh-add finds it: status 2 until then */
        snprintf(command, sizeof command, "until ssh-add -q %s </dev/null 2>%s/ssh-add; do :; done", key, place.dir);
        cr_assert_eq(system(command), 0);
        cr_assert_eq(unlink(key), 0);
    }
    return pid;
}

static void end_agent(pid_t pid) {
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
}

Test(auth, agent) {
    char *first = make_key(&place, "first", NULL), *second = make_key(&place, "second", NULL);
    server.methods = SSH_AUTH_METHOD_PUBLICKEY;
    server.key_base64 = second;
    server_begin(&server, &place);
    pid_t agent = start_agent((const char *const[]){"first", "second"}, 2);
    int err = shake(), again = shake();
    unsigned offers = server.offers;
    place.options.identities_only = true;
    int only = shake();
    unsigned offers_only = server.offers;
    place.options.identities_only = false;
    place.options.identity_agent = (char[]){"none"};
    int none = shake();
    end_agent(agent);
    cr_assert_eq(err, 0);
    cr_assert_eq(again, 0);
    cr_assert_eq(offers, 3 + 2, "first, second, signature; then second goes first");
    cr_assert_eq(only, ERR_AUTH);
    cr_assert_eq(offers_only, offers, "IdentitiesOnly without a file offers nothing");
    cr_assert_eq(none, ERR_AUTH);
    ssh_string_free_char(first);
    ssh_string_free_char(second);
}

Test(auth, agent_that_is_not_there) {
    server.methods = SSH_AUTH_METHOD_PASSWORD | SSH_AUTH_METHOD_PUBLICKEY;
    server_begin(&server, &place);
    setenv("SSH_AUTH_SOCK", "/nonexistent/agent", 1);
    file_put(place.answers, "right\n", 0600);
    cr_assert_eq(shake(), 0);
}
