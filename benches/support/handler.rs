//! The handler of the benchmark: static, without a libc, so that little but fork and exec is measured.
//!
//! Writes one byte to descriptor 1. With the argument `hold`, or for a client of 127.2.0.0/16 as ipsvd's environment
//! names it, it then stays until its client goes. Compiled by the benchmark itself; it is no part of the package.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x0, sp", "bl {main}", main = sym main);

/// Numbers of read, write and exit_group.
#[cfg(target_arch = "x86_64")]
const CALLS: [usize; 3] = [0, 1, 231];
#[cfg(target_arch = "aarch64")]
const CALLS: [usize; 3] = [63, 64, 94];

/// # Safety
/// `pointer` is valid for what the system call does with `length` bytes of it.
#[inline(always)]
unsafe fn call(number: usize, first: usize, pointer: *mut u8, length: usize) -> isize {
    let result;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") first, in("rsi") pointer, in("rdx") length,
             out("rcx") _, out("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") first as isize => result, in("x1") pointer, in("x2") length,
             options(nostack));
    }
    result
}

/// # Safety
/// `word` ends with a zero byte.
unsafe fn starts_with(word: *const u8, prefix: &[u8]) -> bool {
    (0..prefix.len()).all(|i| unsafe { *word.add(i) == *prefix.as_ptr().add(i) })
}

/// # Safety
/// `stack` is what the kernel left at the start: argc, argv, null, environment, null.
unsafe extern "C" fn main(stack: *const *const u8) -> ! {
    let mut byte = b'.';
    unsafe {
        let mut hold = false;
        let mut word = stack.add(1);
        let end_of_arguments = word.add(stack.read() as usize);
        while word < end_of_arguments || !word.read().is_null() {
            let text = word.read();
            hold |= !text.is_null() && (starts_with(text, b"hold\0") || starts_with(text, b"TCPREMOTEIP=127.2."));
            word = word.add(1);
            if word == end_of_arguments {
                word = word.add(1);
            }
        }
        call(CALLS[1], 1, &raw mut byte, 1);
        while hold && call(CALLS[0], 0, &raw mut byte, 1) > 0 {}
        loop {
            call(CALLS[2], 0, core::ptr::null_mut(), 0);
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
