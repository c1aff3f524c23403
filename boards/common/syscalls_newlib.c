// SPDX-License-Identifier: Apache-2.0
// What newlib asks of a system, by semihosting: printf, files, malloc and exit work.
//
// Ours instead of rdimon.specs, so that every board has the same few lines and needs no set-up
// call; instead of nosys.specs, whose silent stubs make a lost printf or an endless exit.
#include "semihosting.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

extern char __heap_start[], __heap_end[];

void _exit(int code);
int _open(const char *name, int flags, int mode);
int _close(int file);
int _write(int file, const void *data, size_t bytes);
int _read(int file, void *data, size_t bytes);
int _lseek(int file, int offset, int whence);
int _fstat(int file, struct stat *status);
int _isatty(int file);
void *_sbrk(int increment);
int _kill(int process, int signal);
int _getpid(void);

enum { FILES = 16, CONSOLE = 3 };

// A descriptor's semihosting handle plus 1 (0: not open) and position. Newlib's own numbers are not
// the emulator's, and semihosting has no "where am I".
static struct {
    int32_t handle;
    int32_t position;
} files[FILES];

static int fail(int error)
{
    errno = error;
    return -1;
}

// Is `file` open? Descriptors 0, 1 and 2 open themselves, on the emulator's console.
static bool is_open(int file)
{
    static const uint8_t modes[CONSOLE] = {EMX_OPEN_RB, EMX_OPEN_W, EMX_OPEN_A};
    if (file < 0 || file >= FILES)
        return false;
    if (file < CONSOLE && files[file].handle == 0)
        files[file].handle = emx_semihost_open(":tt", modes[file]) + 1;
    return files[file].handle != 0;
}

void _exit(int code) { emx_semihost_exit((uint32_t)code); }

int _open(const char *name, int flags, int mode)
{
    (void)mode;
    int file = CONSOLE;
    while (file < FILES && files[file].handle)
        file++;
    if (file == FILES)
        return fail(EMFILE);
    const int access = flags & O_ACCMODE;
    uint32_t how = access == O_RDONLY ? EMX_OPEN_RB : flags & O_APPEND ? EMX_OPEN_AB : EMX_OPEN_WB;
    if (access == O_RDWR)
        how = flags & O_TRUNC ? EMX_OPEN_WB + 2 : EMX_OPEN_RB + 2; // "w+b" or "r+b"
    const int32_t handle = emx_semihost_open(name, how);
    if (handle < 0)
        return fail(ENOENT);
    files[file].handle = handle + 1;
    files[file].position = 0;
    return file;
}

int _close(int file)
{
    if (!is_open(file))
        return fail(EBADF);
    const uint32_t block[1] = {(uint32_t)files[file].handle - 1};
    files[file].handle = 0;
    return emx_semihost(EMX_SYS_CLOSE, block) == 0 ? 0 : fail(EIO);
}

static int transfer(uint32_t operation, int file, const void *data, size_t bytes)
{
    if (!is_open(file))
        return fail(EBADF);
    const int32_t left = emx_semihost_transfer(operation, files[file].handle - 1, data, bytes);
    if (left < 0 || (size_t)left > bytes)
        return fail(EIO);
    const int done = (int)bytes - left;
    files[file].position += done;
    return done;
}

int _write(int file, const void *data, size_t bytes)
{
    return transfer(EMX_SYS_WRITE, file, data, bytes);
}

int _read(int file, void *data, size_t bytes) { return transfer(EMX_SYS_READ, file, data, bytes); }

static int32_t length(int file)
{
    const uint32_t block[1] = {(uint32_t)files[file].handle - 1};
    return emx_semihost(EMX_SYS_FLEN, block);
}

int _lseek(int file, int offset, int whence)
{
    if (!is_open(file))
        return fail(EBADF);
    if (file < CONSOLE)
        return fail(ESPIPE);
    const int32_t base = whence == SEEK_SET   ? 0
                         : whence == SEEK_CUR ? files[file].position
                                              : length(file);
    const uint32_t block[2] = {(uint32_t)files[file].handle - 1, (uint32_t)(base + offset)};
    if (base + offset < 0 || emx_semihost(EMX_SYS_SEEK, block) != 0)
        return fail(EINVAL);
    return files[file].position = base + offset;
}

int _fstat(int file, struct stat *status)
{
    if (!is_open(file))
        return fail(EBADF);
    *status = (struct stat){0};
    status->st_mode = file < CONSOLE ? S_IFCHR : S_IFREG;
    status->st_size = file < CONSOLE ? 0 : length(file);
    return 0;
}

int _isatty(int file) { return file >= 0 && file < CONSOLE; }

void *_sbrk(int increment)
{
    static char *top = __heap_start;
    if (increment > __heap_end - top) {
        errno = ENOMEM;
        return (void *)-1;
    }
    top += increment;
    return top - increment;
}

int _kill(int process, int signal)
{
    (void)process;
    emx_semihost_exit(128 + (uint32_t)signal);
}

int _getpid(void) { return 1; }
