/* Paths that more than one program must agree on: where the socket is, for the runtime that binds
 * it and the clients that connect; how the kept image of a model is called, for the runtime that
 * writes it and the command that removes it with the model. */
#ifndef INGLE_SHM_PATHS_H
#define INGLE_SHM_PATHS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INGLE_SOCKET_PATH_BYTES 108u /* of sockaddr_un.sun_path, with the NUL */

/**
 * The socket's path: $XDG_RUNTIME_DIR/ingle/ingle.sock, or /run/user/UID/ingle/ingle.sock where
 * /run/user/UID is a directory of this user, or ~/.local/state/ingle/ingle.sock.
 *
 * @runtime_dir  the value of XDG_RUNTIME_DIR; NULL, empty or relative: as if unset
 * @home         the value of HOME; NULL, empty or relative: as if unset
 * @uid          whose
 *
 * Ownership: fills ret_path.  Thread: any.
 * Returns 0, -ENAMETOOLONG (the path does not fit a socket address), or -ENOENT (no variable is set
 * and /run/user/UID does not exist).
 */
int ingle_path_socket(const char *runtime_dir, const char *home, uid_t uid,
                      char ret_path[INGLE_SOCKET_PATH_BYTES]);

/**
 * Make sure that the directory of the socket exists and is ours alone: parents are created, the
 * last one with mode 0700; one that exists must be a directory itself (no symbolic link), belong to
 * uid, and be closed to writers in group and others. Who may connect, may use the runtime.
 *
 * @socket_path  absolute; its last component is the socket itself
 *
 * Ownership: borrows.  Thread: any.
 * Returns 0, -ENOTDIR (something else is there), -EPERM (another user's), -EACCES (others may write
 * to it), -EINVAL (not absolute), -ENAMETOOLONG, or -errno of mkdir(2).
 */
int ingle_path_prepare(const char *socket_path, uid_t uid);

/**
 * The file name of a model's image: STEM.HASH.image, HASH being 32 hexadecimal digits.
 *
 * @stem    the model's file name, or what stands for it
 * @source  16 bytes that name the content of the model's file
 * @bytes   room in ret_name, at least 1
 *
 * Ownership: fills ret_name.  Thread: any.
 * Returns 0, or -ENAMETOOLONG (does not fit, or leaves no room in NAME_MAX for ".part").
 */
int ingle_path_image(const char *stem, const uint8_t source[16], char *ret_name, size_t bytes);

/**
 * Is `name` what ingle_path_image() makes of stem and some content (or that and ".part")?
 *
 * @stem  NULL: of any stem
 *
 * Ownership: borrows.  Thread: any.  Errors: none.
 */
bool ingle_path_is_image(const char *name, const char *stem);

#ifdef __cplusplus
}
#endif
#endif
