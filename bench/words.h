/* The {words} in the strings of peers, and the programs that some of them stand for. */
#ifndef BENCH_WORDS_H
#define BENCH_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum word {
    WORD_DIR,
    WORD_KEYS,
    WORD_HOST_PUBLIC_KEY,
    WORD_USER_PUBLIC_KEY,
    WORD_LISTEN_HOST,
    WORD_LISTEN_PORT,
    WORD_SERVER_HOST,
    WORD_SERVER_PORT,
    WORD_CONNECT_PORT,
    WORD_TARGET_HOST,
    WORD_TARGET_PORT,
    WORD_CIPHER,
    WORD_REKEY,
    WORD_LIMIT,
    WORD_USER,
    WORD_UID,
    WORD_GID,
    WORD_BIN,
    WORD_COUNT
};

/* A program that a peer needs. */
struct words_program {
    char *name, *path; /* path NULL: not installed */
};

/* What the words stand for; borrowed. NULL: not a word here. */
struct words {
    const char *values[WORD_COUNT];
    const struct words_program *programs;
    size_t program_count;
};

/* The text with each {word} replaced, and "{{" by a brace; free it. NULL: `unknown` has the word that stands for
 * nothing, or is empty when memory is out. */
char *words_expand(const struct words *words, const char *text, char *unknown, size_t unknown_bytes);
/* Is {word} in the text? */
bool words_uses(const char *text, enum word word);

/* The folder of the running program; "." when the kernel does not tell. Static. */
const char *words_bin(void);
/* Where a program is: `given` (NAME=PATH, NULL-terminated, or NULL), beside the running program, in PATH, in the sbin
 * folders. A name that ends in .so is a library to be preloaded: itself, if the loader finds it. NULL: not installed;
 * free it. */
char *words_find_program(const char *name, const char *const *given);
/* The path that `given` names for it, or NULL. Borrowed. */
const char *words_given(const char *name, const char *const *given);

#endif
