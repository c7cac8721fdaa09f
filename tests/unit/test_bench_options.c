/* leat-bench's command line: what is read, what is refused and by which words; and what the plan makes of names. */
#include "bench/bench_options.h"
#include "bench/plan.h"
#include "bench/progress.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 64

static struct bench_options options;
static char *words[WORDS_MAX], *text, *complaint;
static int word_count;

/* Splits a line at spaces: "leat-bench LINE". */
static int read_line(const char *line) {
    size_t len;
    char *rest = NULL;
    word_count = 1;
    text = strdup(line);
    words[0] = (char *)(uintptr_t) "leat-bench";
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        words[word_count++] = word;
    words[word_count] = NULL;
    FILE *err = open_memstream(&complaint, &len);
    int status = bench_options_read(&options, word_count, words, err);
    fclose(err);
    return status;
}

static void forget(void) {
    bench_options_deinit(&options);
    options = (struct bench_options){0};
    free(text);
    free(complaint);
    text = complaint = NULL;
}

static void expect_read(const char *line) {
    cr_assert_eq(read_line(line), 0, "'%s': %s", line, complaint);
    cr_assert_str_eq(complaint, "");
}

/* One line that begins with the program's name and contains `what`. */
static void expect_refused(const char *line, const char *what) {
    cr_expect_eq(read_line(line), BENCH_USAGE, "'%s' was taken", line);
    cr_expect_not_null(strstr(complaint, what), "'%s': not \"%s\" but: %s", line, what, complaint);
    cr_expect_eq(strncmp(complaint, "leat-bench: ", 12), 0, "%s", complaint);
    char *end = strchr(complaint, '\n');
    cr_expect(end != NULL && end[1] == '\0', "not one line: %s", complaint);
    forget();
}

TestSuite(bench_options, .fini = forget);

Test(bench_options, defaults) {
    expect_read("");
    cr_expect_eq(options.command, BENCH_RUN);
    cr_expect_eq(options.size, SIZE_STANDARD);
    cr_expect_eq(options.rounds, 0);
    cr_expect_eq(options.seconds, 0);
    cr_expect_eq(options.peer_count, 0);
    cr_expect_eq(options.word_count, 0);
    cr_expect_null(options.base);
    cr_expect_null(options.json);
    cr_expect_null(options.programs[0]);
    cr_expect_str_eq(options.cipher, "aes128-gcm@openssh.com");
    cr_expect_float_eq(options.tolerance, 0.05, 1e-12);
    cr_expect_eq(options.seed, 1);
    cr_expect(!options.no_namespaces && !options.keep && !options.quiet && !options.markdown);
    cr_expect(options.client_pin.text == NULL && options.server_pin.text == NULL && options.load_pin.text == NULL);
}

Test(bench_options, every_option_of_a_run) {
    expect_read("run --quick --rounds 7 --seconds 0.5 --peers ssh-sshd,leat-leatd,direct --base direct "
                "--peers-file P --program leat=/a/b --program ssh=/c=d --tunnel mine=127.0.0.1:80 --target-port 81 "
                "--cipher X --rtt 20 --rate 100 --loss 1.5 --tcp-buffers 6M,4M --congestion bbr --pin client=0,load=0 "
                "--seed 18446744073709551615 --json J "
                "--csv C --html H --percentiles D --markdown --keep --quiet bulk/* latency");
    cr_expect_eq(options.command, BENCH_RUN);
    cr_expect_eq(options.size, SIZE_QUICK);
    cr_expect_eq(options.rounds, 7);
    cr_expect_float_eq(options.seconds, 0.5, 1e-12);
    cr_assert_eq(options.peer_count, 3);
    cr_expect_str_eq(options.peers[0], "ssh-sshd");
    cr_expect_str_eq(options.peers[2], "direct");
    cr_expect_str_eq(options.base, "direct");
    cr_expect_str_eq(options.peers_file, "P");
    cr_assert_eq(options.program_count, 2);
    cr_expect_str_eq(options.programs[1], "ssh=/c=d");
    cr_expect_null(options.programs[2]);
    cr_assert_eq(options.tunnel_count, 1);
    cr_expect_str_eq(options.tunnels[0].name, "mine");
    cr_expect_eq(ntohs(options.tunnels[0].address.sin_port), 80);
    cr_expect_eq(ntohl(options.tunnels[0].address.sin_addr.s_addr), INADDR_LOOPBACK);
    cr_expect_eq(options.target_port, 81);
    cr_expect_str_eq(options.cipher, "X");
    cr_expect_float_eq(options.shape.rtt_ms, 20, 1e-12);
    cr_expect_float_eq(options.shape.rate_mbit, 100, 1e-12);
    cr_expect_float_eq(options.shape.loss, 0.015, 1e-12);
    cr_expect_eq(options.shape.tcp_receive_max, 6000000);
    cr_expect_eq(options.shape.tcp_send_max, 4000000);
    cr_expect_str_eq(options.shape.congestion, "bbr");
    cr_expect_str_eq(options.client_pin.text, "0");
    cr_expect_null(options.server_pin.text);
    cr_expect_eq(CPU_COUNT(&options.load_pin.cpus), 1);
    cr_expect_eq(options.seed, UINT64_MAX);
    cr_expect_str_eq(options.json, "J");
    cr_expect_str_eq(options.csv, "C");
    cr_expect_str_eq(options.html, "H");
    cr_expect_str_eq(options.percentiles, "D");
    cr_expect(options.markdown && options.keep && options.quiet);
    cr_assert_eq(options.word_count, 2);
    cr_expect_str_eq(options.words[0], "bulk/*");
    cr_expect_str_eq(options.words[1], "latency");
}

Test(bench_options, words_and_options_in_any_order) {
    expect_read("bulk --rounds 5 latency --smoke -- --odd");
    cr_expect_eq(options.size, SIZE_SMOKE);
    cr_assert_eq(options.word_count, 3);
    cr_expect_str_eq(options.words[0], "bulk");
    cr_expect_str_eq(options.words[1], "latency");
    cr_expect_str_eq(options.words[2], "--odd");
}

Test(bench_options, the_other_commands) {
    expect_read("compare a b --tolerance 2.5");
    cr_expect_eq(options.command, BENCH_COMPARE);
    cr_expect_float_eq(options.tolerance, 0.025, 1e-12);
    cr_expect_str_eq(options.words[1], "b");
    forget();
    expect_read("report r --html H --csv=C --percentiles D --markdown");
    cr_expect_eq(options.command, BENCH_REPORT);
    cr_expect_str_eq(options.csv, "C");
    forget();
    expect_read("list --peers-file F --program a=b --smoke");
    cr_expect_eq(options.command, BENCH_LIST);
    forget();
    expect_read("target --target-port 1");
    cr_expect_eq(options.command, BENCH_TARGET);
    cr_expect_eq(options.target_port, 1);
    forget();
    expect_read("load down 127.0.0.1:1 5");
    cr_expect_eq(options.command, BENCH_LOAD);
    forget();
    expect_read("-V --nothing");
    cr_expect_eq(options.command, BENCH_VERSION);
    forget();
    expect_read("compare --help");
    cr_expect_eq(options.command, BENCH_HELP);
}

Test(bench_options, what_is_refused_and_how) {
    static const struct {
        const char *line, *what;
    } cases[] = {
        {"--rounds 0", "--rounds: '0' is not a whole number from 1 to 1000"},
        {"--rounds 1001", "--rounds: '1001'"},
        {"--rounds -1", "--rounds: '-1'"},
        {"--rounds 5x", "--rounds: '5x'"},
        {"--rounds", "--rounds needs a value"},
        {"--rounds=", "--rounds: its value is empty"},
        {"--seconds 0", "--seconds: '0' is not a number from 0.01 to 3600"},
        {"--seconds nan", "--seconds: 'nan'"},
        {"--seconds inf", "--seconds: 'inf'"},
        {"--seconds 1s", "--seconds: '1s'"},
        {"--seed 18446744073709551616", "--seed: "},
        {"--quick=3", "--quick takes no value"},
        {"--nothing", "unknown option '--nothing'"},
        {"--pe x", "unknown option '--pe', or short for several"},
        {"-x", "unknown option '-x'"},
        {"--peers ,,", "--peers: names no peer"},
        {"--program leat", "--program: 'leat' is not NAME=PATH"},
        {"--program =x", "--program: '=x'"},
        {"--program leat=", "--program: 'leat='"},
        {"--tunnel a", "--tunnel: 'a' is not NAME=HOST:PORT"},
        {"--tunnel a=127.0.0.1", "--tunnel: "},
        {"--tunnel a=127.0.0.1:0", "--tunnel: "},
        {"--tunnel a=127.0.0.1:65536", "--tunnel: "},
        {"--tunnel a=:80", "--tunnel: "},
        {"--tunnel =127.0.0.1:80", "--tunnel: "},
        {"--target-port 65536", "--target-port: '65536'"},
        {"--rtt -1", "--rtt: '-1'"},
        {"--rate 0", "--rate: '0'"},
        {"--rtt 1 --loss 100", "--loss: '100'"},
        {"--tcp-buffers 1k", "--tcp-buffers: '1k'"},
        {"--tcp-buffers 1M,", "--tcp-buffers: '1M,'"},
        {"--tcp-buffers 1M,2G", "--tcp-buffers: '1M,2G'"},
        {"--congestion ../x", "--congestion: '../x'"},
        {"--rtt 1 --congestion bbr --no-namespaces", "--tcp-buffers and --congestion are"},
        {"--loss 1", "--loss needs --rtt or --rate"},
        {"--rtt 1 --loss 1 --no-namespaces", "--loss needs namespaces"},
        {"--pin client", "--pin: 'client' does not begin with"},
        {"--pin client=", "--pin: '' is not a list"},
        {"--pin client=x", "--pin: 'x' is not a list"},
        {"--pin client=99999", "--pin: '99999' is not a list"},
        {"--pin all=0", "--pin: 'all=0' does not begin with"},
        {"--cipher a\tb", "--cipher: 'a\tb' is not a name"},
        {"--tolerance 5", "--tolerance is not an option of 'run'"},
        {"compare a b --rounds 5", "--rounds is not an option of 'compare'"},
        {"compare a b --tolerance x", "--tolerance: 'x'"},
        {"compare a", "'compare' takes two results"},
        {"compare a b c", "'compare' takes two results"},
        {"report", "'report' takes one file"},
        {"report a --json b", "--json is not an option of 'report'"},
        {"list bulk", "'list' takes nothing more"},
        {"target now", "'target' takes nothing more"},
        {"load down 127.0.0.1:1", "'load' takes down|up HOST:PORT BYTES"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_refused(cases[i].line, cases[i].what);
}

Test(bench_options, lists_have_an_end) {
    char line[4096] = "";
    for (int i = 0; i < BENCH_LIST_MAX; i++)
        strcat(line, i == 0 ? "--peers a" : ",a");
    expect_read(line);
    cr_expect_eq(options.peer_count, BENCH_LIST_MAX);
    cr_expect_null(options.peers[BENCH_LIST_MAX]);
    forget();
    strcat(line, ",a");
    expect_refused(line, "--peers: more than 32");
    *line = '\0';
    for (int i = 0; i <= BENCH_LIST_MAX; i++)
        strcat(line, "--program=a=b ");
    word_count = 0;
    expect_refused(line, "--program: more than 32");
}

Test(bench_options, the_last_of_two_lists_stands) {
    expect_read("--peers a,b --peers c --pin load=0 --pin load=0-0");
    cr_expect_eq(options.peer_count, 1);
    cr_expect_str_eq(options.peers[0], "c");
    cr_expect_str_eq(options.load_pin.text, "0-0");
}

Test(bench_options, bytes) {
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } cases[] = {{"1", 1},
                 {"5k", 5000},
                 {"2M", 2000000},
                 {"3G", 3000000000},
                 {"18446744T", 18446744000000000000u},
                 {"18446744073709551615", UINT64_MAX},
                 {"18446745T", 0},
                 {"18446744073709551616", 0},
                 {"0", 0},
                 {"", 0},
                 {"-1", 0},
                 {" 1", 0},
                 {"1 ", 0},
                 {"1GB", 0},
                 {"1.5G", 0},
                 {"G", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bytes = 0;
        cr_expect_eq(bench_options_bytes(cases[i].text, &bytes), cases[i].bytes > 0, "'%s'", cases[i].text);
        if (cases[i].bytes > 0)
            cr_expect_eq(bytes, cases[i].bytes, "'%s'", cases[i].text);
    }
}

Test(bench_options, peers_by_other_spellings) {
    cr_expect(plan_names_peer("ssh→sshd", "ssh→sshd"));
    cr_expect(plan_names_peer("ssh->sshd", "ssh→sshd"));
    cr_expect(plan_names_peer("ssh-sshd", "ssh→sshd"));
    cr_expect(plan_names_peer("haproxy-tls", "haproxy-tls"));
    cr_expect(plan_names_peer("a-b-c", "a-b→c"));
    cr_expect_not(plan_names_peer("ssh-ssh", "ssh→sshd"));
    cr_expect_not(plan_names_peer("ssh-sshd2", "ssh→sshd"));
    cr_expect_not(plan_names_peer("ssh", "ssh→sshd"));
    cr_expect_not(plan_names_peer("ssh→sshd", "ssh-sshd"));
    cr_expect_not(plan_names_peer("", "ssh→sshd"));
}

Test(bench_options, scenarios_by_name_group_and_pattern) {
    const struct scenario scenario = {.name = "bulk/down/8", .group = "bulk"};
    cr_expect(plan_names_scenario("bulk/down/8", &scenario));
    cr_expect(plan_names_scenario("bulk", &scenario));
    cr_expect(plan_names_scenario("bulk/*", &scenario));
    cr_expect(plan_names_scenario("*/down/*", &scenario));
    cr_expect(plan_names_scenario("bulk/[du]*/?", &scenario));
    cr_expect_not(plan_names_scenario("bulk/down", &scenario));
    cr_expect_not(plan_names_scenario("bulk/up/*", &scenario));
    cr_expect_not(plan_names_scenario("", &scenario));
}

Test(bench_options, the_time_left_follows_what_has_passed) {
    struct progress progress;
    progress_begin(&progress, NULL, false, 100, 4);
    cr_expect_float_eq(progress_left(&progress, 0), 100, 1e-9);
    progress_advance(&progress, 20);
    cr_expect_float_eq(progress_left(&progress, 5), 80, 1e-9, "the plan, while little has passed");
    cr_expect_float_eq(progress_left(&progress, 40), 160, 1e-9, "twice as slow as planned");
    progress_advance(&progress, 80);
    cr_expect_float_eq(progress_left(&progress, 300), 0, 1e-9);
    progress_advance(&progress, 1);
    cr_expect_float_eq(progress_left(&progress, 300), 0, 1e-9, "never less than nothing");
}
