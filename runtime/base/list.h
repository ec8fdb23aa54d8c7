/* Intrusive doubly linked list. A zeroed node is in no list; a head must be initialised. */
#ifndef INGLE_RUNTIME_BASE_LIST_H
#define INGLE_RUNTIME_BASE_LIST_H
#include <stdbool.h>
#include <stddef.h>

struct ingle_list {
    struct ingle_list *prev, *next;
};

/* The struct of `type` whose member `field` is at `p`. */
#define ingle_container(p, type, field) ((type *)(void *)((char *)(p)-offsetof(type, field)))

static inline void ingle_list_init(struct ingle_list *head)
{
    head->prev = head->next = head;
}

static inline bool ingle_list_empty(const struct ingle_list *head)
{
    return head->next == head;
}

static inline bool ingle_list_linked(const struct ingle_list *node)
{
    return node->next != NULL;
}

static inline void ingle_list_append(struct ingle_list *head, struct ingle_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Nothing happens when the node is in no list. */
static inline void ingle_list_remove(struct ingle_list *node)
{
    if (node->next != NULL) {
        node->prev->next = node->next;
        node->next->prev = node->prev;
        node->prev = node->next = NULL;
    }
}

#endif
