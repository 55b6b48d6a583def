# SPDX-License-Identifier: GPL-2.0-or-later
#
# A boot sector that starts Linux from its disk, for guests to which no toolstack can hand a kernel. Which sectors go
# where is a table behind it that linux_disk.py fills in, with the header of the kernel's real mode code prepared by it
# too: Documentation/arch/x86/boot.rst of Linux. What goes where is copied by the BIOS (INT 15h, AH = 87h), which can
# write above 1 MiB.

    .code16
    .globl _start

    .equ SECTORS, 120              # read at once, less than 64 KiB, which some BIOSes cannot pass
    .equ BUFFER_SEGMENT, 0x2000
    .equ REAL_MODE_SEGMENT, 0x1000 # where the table has the kernel's real mode code go
    .equ ENTRIES, 4

_start:
    ljmp $0, $begin
begin:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    cld
    movb %dl, drive
    movw $table, %bp
chunk:
    movl 4(%bp), %ecx              # sectors that are left of this entry
    testl %ecx, %ecx
    jz next
    cmpl $SECTORS, %ecx
    jbe read
    movl $SECTORS, %ecx
read:
    movw %cx, packet + 2
    movl 0(%bp), %eax
    movl %eax, packet + 8
    addl %ecx, 0(%bp)
    subl %ecx, 4(%bp)
    shll $9, %ecx                  # bytes
    movl 8(%bp), %eax
    addl %ecx, 8(%bp)
    pushl %ecx
    movw %ax, target               # the descriptor's base, in three pieces
    shrl $16, %eax
    movb %al, target + 2
    movb %ah, target + 5
    movb $0x42, %ah
    movb drive, %dl
    movw $packet, %si
    int $0x13
    jc fail
    popl %ecx
    shrw $1, %cx                   # words
    movb $0x87, %ah
    movw $descriptors, %si
    int $0x15
    jnc chunk
fail:
    movw $0x0e45, %ax              # E on the screen
    int $0x10
    movw $0x3f8, %dx
    outb %al, %dx                  # and on the serial port
stop:
    hlt
    jmp stop
next:
    addw $12, %bp
    cmpw $end, %bp
    jb chunk
    cli
    movw $REAL_MODE_SEGMENT, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    movw $0xe000, %sp
    ljmp $REAL_MODE_SEGMENT + 0x20, $0

drive:
    .byte 0
    .balign 4
packet:                            # of INT 13h, AH = 42h: sectors, offset, segment, first sector
    .word 16, 0, 0, BUFFER_SEGMENT
    .quad 0
descriptors:                       # of INT 15h, AH = 87h: two for the BIOS, from where, to where, two for the BIOS
    .zero 16
    .word 0xffff, 0
    .byte BUFFER_SEGMENT >> 12, 0x93, 0, 0
    .word 0xffff
target:
    .word 0
    .byte 0, 0x93, 0, 0
    .zero 16

    .org 510 - 12 * ENTRIES
table:                             # first sector, how many, to which address
    .zero 12 * ENTRIES
end:
    .word 0xaa55
