#pragma once
/* Intrusive doubly linked list with a sentinel head. O(1) everything; a node knows whether it is linked. */
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))
#define list_for_each(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
#define list_for_each_safe(node, after, head)                                                                          \
    for (struct list *node = (head)->next, *after = node->next; node != (head); node = after, after = node->next)

static inline void list_init(struct list *head) {
    head->next = head->prev = head;
}
static inline bool list_empty(const struct list *head) {
    return head->next == head;
}
/* A node is unlinked when it points at itself (after list_init or list_remove). */
static inline bool list_linked(const struct list *node) {
    return node->next != node;
}
static inline void list_push_back(struct list *head, struct list *node) {
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void list_push_front(struct list *head, struct list *node) {
    list_push_back(head->next, node);
}
static inline void list_remove(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline struct list *list_first(struct list *head) {
    return list_empty(head) ? NULL : head->next;
}
