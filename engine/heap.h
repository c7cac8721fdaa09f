#pragma once
/* The allocator's memory, back to the system. Works with the allocator that the program happens to be linked with. */

/* What has been unused for long, as far as the allocator itself would give it back. Cheap. Any thread. */
void heap_decay(void);
/* All that is unused. For a thread that is about to be idle. */
void heap_purge(void);
