//! What a core module gets of `wasi_snapshot_preview1`, which the runtimes of some languages (Go, wasi-libc) call when
//! they start. There are a clock, random numbers, no arguments and an output that nobody reads; all else answers an
//! errno. A bad pointer answers one too. Only `proc_exit` traps. Knows nothing of schedulers.

use wasmtime::{Caller, Extern, FuncType, Linker, Module, Val, ValType, bail};

use crate::policy::{ModuleError, wasm::abi::Host};

/// The module name of these imports.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// How a WASI function says how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Errno(u16);

const SUCCESS: Errno = Errno(0);
/// No such file descriptor.
const BADF: Errno = Errno(8);
/// A pointer out of the guest's memory.
const FAULT: Errno = Errno(21);
const INVAL: Errno = Errno(28);
const NOSYS: Errno = Errno(52);

/// `now` counts microseconds.
const CLOCK_RESOLUTION_NANOSECONDS: u64 = 1_000;
const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Buffers or subscriptions in one call, as IOV_MAX: a call cannot be stopped on the host's side.
const ITEMS_MAX: u32 = 1024;

/// A subscription of `poll_oneoff` and its event: sizes, and the tag of one that waits for a time.
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
const TAG_CLOCK: u8 = 0;

type Guest<'a> = Caller<'a, Host>;

/// The functions that do something. They have more than a line of [`stubs`].
const WORKING: &[&str] = &[
    "args_sizes_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "fd_write",
    "random_get",
    "poll_oneoff",
    "proc_exit",
];

/// The others: name, types of the parameters, and what they answer. No file is open, so that whatever wants one gets
/// `BADF`, and a runtime that looks for open directories sees at once that there are none.
const STUBS: &[(&str, &[ValType], Errno)] = {
    use ValType::{I32, I64};
    &[
        ("args_get", &[I32, I32], SUCCESS),
        ("environ_get", &[I32, I32], SUCCESS),
        ("sched_yield", &[], SUCCESS),
        ("proc_raise", &[I32], NOSYS),
        ("fd_advise", &[I32, I64, I64, I32], BADF),
        ("fd_allocate", &[I32, I64, I64], BADF),
        ("fd_close", &[I32], BADF),
        ("fd_datasync", &[I32], BADF),
        ("fd_fdstat_get", &[I32, I32], BADF),
        ("fd_fdstat_set_flags", &[I32, I32], BADF),
        ("fd_fdstat_set_rights", &[I32, I64, I64], BADF),
        ("fd_filestat_get", &[I32, I32], BADF),
        ("fd_filestat_set_size", &[I32, I64], BADF),
        ("fd_filestat_set_times", &[I32, I64, I64, I32], BADF),
        ("fd_pread", &[I32, I32, I32, I64, I32], BADF),
        ("fd_prestat_dir_name", &[I32, I32, I32], BADF),
        ("fd_prestat_get", &[I32, I32], BADF),
        ("fd_pwrite", &[I32, I32, I32, I64, I32], BADF),
        ("fd_read", &[I32, I32, I32, I32], BADF),
        ("fd_readdir", &[I32, I32, I32, I64, I32], BADF),
        ("fd_renumber", &[I32, I32], BADF),
        ("fd_seek", &[I32, I64, I32, I32], BADF),
        ("fd_sync", &[I32], BADF),
        ("fd_tell", &[I32, I32], BADF),
        ("path_create_directory", &[I32, I32, I32], BADF),
        ("path_filestat_get", &[I32, I32, I32, I32, I32], BADF),
        ("path_filestat_set_times", &[I32, I32, I32, I32, I64, I64, I32], BADF),
        ("path_link", &[I32, I32, I32, I32, I32, I32, I32], BADF),
        ("path_open", &[I32, I32, I32, I32, I32, I64, I64, I32, I32], BADF),
        ("path_readlink", &[I32, I32, I32, I32, I32, I32], BADF),
        ("path_remove_directory", &[I32, I32, I32], BADF),
        ("path_rename", &[I32, I32, I32, I32, I32, I32], BADF),
        ("path_symlink", &[I32, I32, I32, I32, I32], BADF),
        ("path_unlink_file", &[I32, I32, I32], BADF),
        ("sock_accept", &[I32, I32, I32], BADF),
        ("sock_recv", &[I32, I32, I32, I32, I32, I32], BADF),
        ("sock_send", &[I32, I32, I32, I32, I32], BADF),
        ("sock_shutdown", &[I32, I32], BADF),
    ]
};

/// Refuses a function that [`MODULE`] does not have.
pub(super) fn check_function(name: &str) -> Result<(), ModuleError> {
    let is_known = WORKING.contains(&name) || STUBS.iter().any(|(stub, ..)| *stub == name);
    is_known.then_some(()).ok_or_else(|| {
        ModuleError(format!("imports `{name:.100}` from `{MODULE}`, which has no such function"))
    })
}

/// Whether a module uses it: then it most likely has a language's runtime in it.
pub(super) fn is_used_by(module: &Module) -> bool {
    module.imports().any(|import| import.module() == MODULE)
}

/// Adds its functions to a linker.
pub(super) fn add_to(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for (name, parameters, errno) in STUBS {
        let ty = FuncType::new(linker.engine(), parameters.iter().cloned(), [ValType::I32]);
        linker.func_new(MODULE, name, ty, move |_guest, _parameters, results| {
            results[0] = Val::I32(i32::from(errno.0));
            Ok(())
        })?;
    }
    linker
        .func_wrap(MODULE, "args_sizes_get", |guest: Guest<'_>, count: u32, bytes: u32| {
            answer(no_strings(guest, count, bytes))
        })?
        .func_wrap(MODULE, "environ_sizes_get", |guest: Guest<'_>, count: u32, bytes: u32| {
            answer(no_strings(guest, count, bytes))
        })?
        .func_wrap(MODULE, "clock_res_get", |guest: Guest<'_>, clock: u32, at: u32| {
            answer(clock_resolution(guest, clock, at))
        })?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |guest: Guest<'_>, clock: u32, _precision: u64, at: u32| {
                answer(clock_time(guest, clock, at))
            },
        )?
        .func_wrap(
            MODULE,
            "fd_write",
            |guest: Guest<'_>, descriptor: u32, buffers: u32, count: u32, written: u32| {
                answer(write(guest, descriptor, (buffers, count), written))
            },
        )?
        .func_wrap(MODULE, "random_get", |guest: Guest<'_>, at: u32, length: u32| {
            answer(random(guest, at, length))
        })?
        .func_wrap(
            MODULE,
            "poll_oneoff",
            |guest: Guest<'_>, subscriptions: u32, events: u32, count: u32, happened: u32| {
                answer(poll(guest, (subscriptions, count), events, happened))
            },
        )?
        .func_wrap(MODULE, "proc_exit", |_guest: Guest<'_>, code: u32| -> wasmtime::Result<()> {
            bail!("the module exited with code {code}")
        })?;
    Ok(())
}

fn answer(result: Result<(), Errno>) -> u32 {
    u32::from(result.err().unwrap_or(SUCCESS).0)
}

/// No arguments and no environment variables.
fn no_strings(mut guest: Guest<'_>, count: u32, bytes: u32) -> Result<(), Errno> {
    let mut memory = Memory::of(&mut guest)?.0;
    memory.set(count, &0_u32.to_le_bytes())?;
    memory.set(bytes, &0_u32.to_le_bytes())
}

fn clock_resolution(mut guest: Guest<'_>, clock: u32, at: u32) -> Result<(), Errno> {
    if !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC) {
        return Err(INVAL);
    }
    Memory::of(&mut guest)?.0.set(at, &CLOCK_RESOLUTION_NANOSECONDS.to_le_bytes())
}

fn clock_time(mut guest: Guest<'_>, clock: u32, at: u32) -> Result<(), Errno> {
    let microseconds = match clock {
        CLOCK_REALTIME => guest.data().unix_microseconds(),
        CLOCK_MONOTONIC => guest.data().microseconds(),
        _ => return Err(INVAL),
    };
    let time = microseconds.saturating_mul(CLOCK_RESOLUTION_NANOSECONDS).to_le_bytes();
    Memory::of(&mut guest)?.0.set(at, &time)
}

/// Counts the bytes and drops them.
fn write(
    mut guest: Guest<'_>,
    descriptor: u32,
    (buffers, count): (u32, u32),
    written: u32,
) -> Result<(), Errno> {
    if !matches!(descriptor, STDOUT | STDERR) {
        return Err(BADF);
    }
    if count > ITEMS_MAX {
        return Err(INVAL);
    }
    let mut memory = Memory::of(&mut guest)?.0;
    let mut bytes = 0_u32;
    for buffer in 0..count {
        let at = buffers.checked_add(buffer * 8).ok_or(FAULT)?;
        let (start, length) = (memory.u32(at)?, memory.u32(at.checked_add(4).ok_or(FAULT)?)?);
        memory.slice(start, length)?;
        bytes = bytes.checked_add(length).ok_or(INVAL)?;
    }
    memory.set(written, &bytes.to_le_bytes())
}

fn random(mut guest: Guest<'_>, at: u32, length: u32) -> Result<(), Errno> {
    let (mut memory, host) = Memory::of(&mut guest)?;
    for chunk in memory.slice(at, length)?.chunks_mut(8) {
        chunk.copy_from_slice(&host.next_random().to_le_bytes()[..chunk.len()]);
    }
    Ok(())
}

/// Everything has happened: whoever waits for a time goes on at once, since a guest may not sleep, and whoever waits
/// for a file hears that there is none.
fn poll(
    mut guest: Guest<'_>,
    (subscriptions, count): (u32, u32),
    events: u32,
    happened: u32,
) -> Result<(), Errno> {
    if count == 0 || count > ITEMS_MAX {
        return Err(INVAL);
    }
    let mut memory = Memory::of(&mut guest)?.0;
    for i in 0..count {
        let from = subscriptions.checked_add(i * SUBSCRIPTION_BYTES).ok_or(FAULT)?;
        let to = events.checked_add(i * EVENT_BYTES).ok_or(FAULT)?;
        let subscription = memory.slice(from, SUBSCRIPTION_BYTES)?;
        let mut event = [0; EVENT_BYTES as usize];
        // The user's data, then an errno, then the kind of the event.
        event[..8].copy_from_slice(&subscription[..8]);
        let tag = subscription[8];
        let errno = if tag == TAG_CLOCK { SUCCESS } else { BADF };
        event[8..10].copy_from_slice(&errno.0.to_le_bytes());
        event[10] = tag;
        memory.set(to, &event)?;
    }
    memory.set(happened, &count.to_le_bytes())
}

/// The guest's memory, in which every access is checked.
struct Memory<'a>(&'a mut [u8]);

impl<'a> Memory<'a> {
    fn of(guest: &'a mut Guest<'_>) -> Result<(Self, &'a mut Host), Errno> {
        let Some(Extern::Memory(memory)) = guest.get_export("memory") else { return Err(FAULT) };
        let (bytes, host) = memory.data_and_store_mut(guest);
        Ok((Self(bytes), host))
    }

    fn slice(&mut self, at: u32, length: u32) -> Result<&mut [u8], Errno> {
        let start = usize::try_from(at).map_err(|_too_large| FAULT)?;
        let length = usize::try_from(length).map_err(|_too_large| FAULT)?;
        let end = start.checked_add(length).ok_or(FAULT)?;
        self.0.get_mut(start..end).ok_or(FAULT)
    }

    fn set(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_too_large| FAULT)?;
        self.slice(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    fn u32(&mut self, at: u32) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.slice(at, 4)?);
        Ok(u32::from_le_bytes(bytes))
    }
}
