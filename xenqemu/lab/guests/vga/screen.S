# SPDX-License-Identifier: GPL-2.0-or-later
#
# The screen guest: real mode code that the firmware starts at 0x7c00. It does to its screen what its serial port tells
# it, a line for each command, and answers as the Linux guest's shell does (linux-init.sh):
#
#   7 mode 4142          the line: a number, a command, numbers in hexadecimal digits
#   xenqemu-guest: end 7 0
#
#   mode MODE            INT 10h, AH=0 below 100, else VBE; with 4000 the frame is written in linear memory, without it
#                        through the window at 0xa0000. A palette of 256 gets the colours of `palette` below
#   fill SEED            random pixels or characters all over the frame, in linear memory
#   char X Y CODE        a character in column X, row Y (of 8 by 16 pixels); not through the window
#   scroll               everything up by a row; not through the window
#   random COUNT SEED    so many random words of 32 bits (characters in text mode) at random places
#   peek COUNT SEED      reads at the same places through the window: `window=SAME COUNT`, how many words are as in
#                        linear memory
#   frame                `frame=ADDRESS WIDTH HEIGHT BITS PITCH CRC`: where the card's memory is, what is shown of it, and
#                        the CRC-32 of that as the guest reads it. BITS are 0 in text mode, where WIDTH, HEIGHT and PITCH
#                        are of the characters at 0xb8000
#
# GNU as, --32.

        .code16
        .text
        .globl  _start

        .set    COM1, 0x3f8
        .set    SIGNATURE, 0xaa55
        .set    TEXT, 0xb8000
        .set    WINDOW, 0xa0000
        .set    CELLS, 2000                     # 80 by 25
        .set    ROW, 16                         # lines of pixels

        # Memory that the firmware leaves alone below this program.
        .set    LINE, 0x5000
        .set    LINE_END, 0x50ff
        .set    VBE_MODE, 0x5200
        .set    CRC_TABLE, 0x5400

_start:
        ljmp    $0, $1f
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $_start, %sp
        sti
        cld
        movw    $packet, %si
        movb    $0x42, %ah
        int     $0x13
        jnc     main
2:      sti
        hlt
        jmp     2b

        .balign 4
packet: .byte   16, 0                           # for INT 13h, AH=42h: size, reserved
        .word   (end - main + 511) / 512, main, 0
        .quad   1

        .org    _start + 510
        .word   SIGNATURE

main:
        movw    $serial_set_up, %si             # 115200 8n1, FIFOs on
1:      lodsw
        cmpw    $0xffff, %ax
        je      2f
        movzbw  %ah, %dx
        addw    $COM1, %dx
        outb    %al, %dx
        jmp     1b
2:      call    crc_table
        movw    $0x1130, %ax                    # where the firmware has characters of 8 by 16
        movb    $6, %bh
        int     $0x10
        xorl    %eax, %eax
        movw    %es, %ax
        shll    $4, %eax
        movzwl  %bp, %ebx
        addl    %ebx, %eax
        movl    %eax, font
        pushw   %ds
        popw    %es
        movw    $0x4f01, %ax                    # 640 by 480 with 256 colours: all cards have it
        movw    $0x101, %cx
        movw    $VBE_MODE, %di
        int     $0x10
        movl    VBE_MODE + 40, %eax
        movl    %eax, linear
        movw    $3, %bx
        call    set_mode
        movw    $up, %si
        call    serial_string

next:   call    read_line
        movw    $LINE, %si
        movw    $asked, %di                     # the number, as it came
1:      lodsb
        cmpb    $' ', %al
        jbe     2f
        cmpw    $asked + 8, %di
        jae     2f
        stosb
        jmp     1b
2:      movb    $0, (%di)
        movw    $commands, %bx
3:      movw    (%bx), %di
        testw   %di, %di
        jz      4f
        call    is_word
        je      5f
        addw    $4, %bx
        jmp     3b
4:      movb    $'2', code
        jmp     6f
5:      movb    $'0', code
        call    *2(%bx)
        jnc     6f
        movb    $'1', code
6:      movw    $ended, %si
        call    serial_string
        movw    $asked, %si
        call    serial_string
        movb    $' ', %al
        call    serial_char
        movb    code, %al
        call    serial_char
        call    end_line
        jmp     next

# ---- the serial port ----

# The port is looked at whenever the timer ticks: the guest does nothing in between, and its screen stays as it is.
read_line:
        movw    $LINE, %di
1:      movw    $COM1 + 5, %dx
        inb     %dx, %al
        testb   $1, %al
        jnz     2f
        sti
        hlt
        jmp     1b
2:      movw    $COM1, %dx
        inb     %dx, %al
        cmpb    $'\n', %al
        je      3f
        cmpb    $' ', %al
        jb      1b
        cmpw    $LINE_END, %di
        jae     1b
        stosb
        jmp     1b
3:      movb    $0, (%di)
        ret

serial_char:                                    # %al
        pushw   %dx
        pushw   %ax
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        movw    $COM1, %dx
        popw    %ax
        outb    %al, %dx
        popw    %dx
        ret

serial_string:                                  # %si
        lodsb
        testb   %al, %al
        jz      1f
        call    serial_char
        jmp     serial_string
1:      ret

serial_number:                                  # %eax, and a blank before it
        pushal
        movl    %eax, %ebx
        movb    $' ', %al
        call    serial_char
        movw    $8, %cx
1:      roll    $4, %ebx
        movb    %bl, %al
        andb    $15, %al
        cmpb    $10, %al
        jb      2f
        addb    $'a' - '0' - 10, %al
2:      addb    $'0', %al
        call    serial_char
        loop    1b
        popal
        ret

end_line:
        movw    $newline, %si
        jmp     serial_string

# ---- what a line says ----

is_word:                                        # ZF if %si is at the word %di, and then behind it
        pushw   %si
1:      movb    (%di), %al
        testb   %al, %al
        jz      2f
        cmpb    %al, (%si)
        jne     3f
        incw    %si
        incw    %di
        jmp     1b
2:      cmpb    $' ', (%si)
        ja      3f
        addw    $2, %sp
        cmpb    %al, %al
        ret
3:      popw    %si
        orb     $1, %al
        ret

number:                                         # %eax, of the hexadecimal digits behind %si
        xorl    %eax, %eax
1:      cmpb    $' ', (%si)
        jne     2f
        incw    %si
        jmp     1b
2:      movb    (%si), %cl
        cmpb    $'0', %cl
        jb      4f
        cmpb    $'9', %cl
        jbe     3f
        orb     $0x20, %cl
        cmpb    $'a', %cl
        jb      4f
        cmpb    $'f', %cl
        ja      4f
        subb    $'a' - 10 - '0', %cl
3:      subb    $'0', %cl
        shll    $4, %eax
        orb     %cl, %al
        incw    %si
        jmp     2b
4:      ret

# ---- memory ----

# From here on all of memory can be reached with 32 bits, until the firmware is called or an interrupt comes, which are
# off. Segments that were loaded in protected mode keep their limit.
flat:   cli
        pushl   %eax
        pushw   %bx
        lgdtl   gdt
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        jmp     1f
1:      movw    $8, %bx
        movw    %bx, %ds
        movw    %bx, %es
        andb    $0xfe, %al
        movl    %eax, %cr0
        jmp     2f
2:      xorw    %bx, %bx
        movw    %bx, %ds
        movw    %bx, %es
        popw    %bx
        popl    %eax
        ret

        .balign 8
segments:
        .quad   0, 0x00cf92000000ffff           # data: all of it
gdt:    .word   15
        .long   segments

any:                                            # %eax: the next of a row of random numbers
        imull   $1664525, seed, %eax
        addl    $1013904223, %eax
        movl    %eax, seed
        ret

any_cell:                                       # %ax: a character that can be seen, in colours that do not blink
        call    any
        movl    %eax, %edx
        shrl    $24, %eax
        andb    $0x3f, %al
        addb    $0x21, %al
        shrl    $16, %edx
        andb    $0x7f, %dl
        movb    %dl, %ah
        ret

any_place:                                      # %edi: where a word of the frame begins, from its beginning
        call    any
        movl    bytes, %edx
        shrl    $2, %edx
        mull    %edx
        leal    (, %edx, 4), %edi
        ret

counted:                                        # COUNT SEED
        call    number
        movl    %eax, count
seeded:                                         # SEED
        call    number
        movl    %eax, seed
        jmp     flat

# The window at the place of %edi, which then is its address; %eax stays.
window_at:
        cmpw    $0x100, mode
        jb      2f
        movl    %edi, %edx
        shrl    $16, %edx
        cmpw    bank, %dx
        je      1f
        movw    %dx, bank
        pushal
        xorw    %dx, %dx                        # in the card's units, of so many KiB
        movw    $64, %ax
        divw    granularity
        mulw    bank
        movw    %ax, %dx
        movw    $0x4f05, %ax
        xorw    %bx, %bx
        int     $0x10
        call    flat
        popal
1:      movzwl  %di, %edi
2:      addl    $WINDOW, %edi
        ret

crc_table:                                      # CRC-32, the one of Ethernet
        movl    $CRC_TABLE, %edi
        xorl    %ecx, %ecx
1:      movl    %ecx, %eax
        movb    $8, %bl
2:      shrl    $1, %eax
        jnc     3f
        xorl    $0xedb88320, %eax
3:      decb    %bl
        jnz     2b
        movl    %eax, (%di)
        addw    $4, %di
        incw    %cx
        cmpw    $256, %cx
        jb      1b
        ret

crc:                                            # %eax, of %ecx words of 32 bits at %esi
        movl    $-1, %eax
1:      movl    (%esi), %edx
        addl    $4, %esi
        .rept   4
        movzbl  %dl, %ebx
        xorb    %al, %bl
        shrl    $8, %eax
        xorl    CRC_TABLE(, %ebx, 4), %eax
        shrl    $8, %edx
        .endr
        decl    %ecx
        jnz     1b
        notl    %eax
        ret

# ---- the commands ----

        .macro  command name:req
        .word   word_\name, do_\name
        .endm
commands:
        command mode
        command fill
        command char
        command scroll
        command random
        command peek
        command frame
        .word   0

do_mode:
        call    number
        movw    %ax, %bx
set_mode:                                       # %bx
        movw    %bx, mode
        movw    $-1, bank
        movb    $1, windowed
        cmpw    $0x100, %bx
        jae     2f
        movw    %bx, %ax
        int     $0x10
        cmpw    $0x13, mode
        je      1f
        movl    $80, width
        movl    $25, height
        movl    $160, pitch
        movl    $0, bits
        movb    $1, %ah                         # no cursor
        movw    $0x2000, %cx
        int     $0x10
        jmp     4f
1:      movl    $320, width
        movl    $200, height
        movl    $320, pitch
        movl    $8, bits
        jmp     3f
2:      movw    $0x4f01, %ax
        movw    %bx, %cx
        andw    $0x1ff, %cx
        movw    $VBE_MODE, %di
        int     $0x10
        cmpw    $0x004f, %ax
        jne     5f
        movw    $0x4f02, %ax
        movw    mode, %bx
        int     $0x10
        cmpw    $0x004f, %ax
        jne     5f
        movzwl  VBE_MODE + 16, %eax
        movl    %eax, pitch
        movzwl  VBE_MODE + 18, %eax
        movl    %eax, width
        movzwl  VBE_MODE + 20, %eax
        movl    %eax, height
        movzbl  VBE_MODE + 25, %eax
        movl    %eax, bits
        movw    VBE_MODE + 4, %ax
        movw    %ax, granularity
        testw   $0x4000, mode
        jz      3f
        movb    $0, windowed
3:      cmpl    $8, bits
        jne     4f
        call    palette
4:      movl    pitch, %eax
        mull    height
        movl    %eax, bytes
        clc
        ret
5:      stc
        ret

# Colour N has the red N % 64, the green N / 4 and the blue 63 - N % 64, of 63.
palette:
        movw    $0x3c8, %dx
        xorb    %al, %al
        outb    %al, %dx
        incw    %dx
        xorb    %cl, %cl
1:      movb    %cl, %al
        andb    $0x3f, %al
        outb    %al, %dx
        movb    %cl, %al
        shrb    $2, %al
        outb    %al, %dx
        movb    %cl, %al
        notb    %al
        andb    $0x3f, %al
        outb    %al, %dx
        incb    %cl
        jnz     1b
        ret

do_fill:
        call    seeded
        cmpl    $0, bits
        je      2f
        movl    linear, %edi
        movl    bytes, %ecx
        shrl    $2, %ecx
1:      call    any
        movl    %eax, (%edi)
        addl    $4, %edi
        decl    %ecx
        jnz     1b
        jmp     done
2:      movl    $TEXT, %edi
        movl    $CELLS, %ecx
3:      call    any_cell
        movw    %ax, (%edi)
        addl    $2, %edi
        decl    %ecx
        jnz     3b
done:   sti
        clc
        ret

do_char:
        call    number
        movl    %eax, column
        call    number
        movl    %eax, %ebx
        call    number
        call    flat
        cmpl    $0, bits
        je      4f
        shll    $4, %eax
        addl    font, %eax
        movl    %eax, %esi
        imull   $ROW, pitch, %eax
        mull    %ebx
        movl    %eax, %edi
        movl    bits, %ebx                      # bytes of a pixel
        addl    $7, %ebx
        shrl    $3, %ebx
        movl    column, %eax
        shll    $3, %eax
        mull    %ebx
        addl    %eax, %edi
        addl    linear, %edi
        movb    $ROW, lines
1:      movb    (%esi), %dl
        incl    %esi
        pushl   %edi
        movb    $8, %dh
2:      shlb    $1, %dl
        sbbb    %al, %al                        # 255 where the character has a point
        movl    %ebx, %ecx
3:      movb    %al, (%edi)
        incl    %edi
        decl    %ecx
        jnz     3b
        decb    %dh
        jnz     2b
        popl    %edi
        addl    pitch, %edi
        decb    lines
        jnz     1b
        jmp     done
4:      movb    %al, %cl
        imull   $80, %ebx, %ebx
        addl    column, %ebx
        movb    $0x1e, %ch
        movw    %cx, TEXT(, %ebx, 2)
        jmp     done

do_scroll:
        call    flat
        movl    $TEXT, %edi
        movl    pitch, %edx
        movl    $0x07200720, %eax
        cmpl    $0, bits
        je      1f
        movl    linear, %edi
        shll    $4, %edx
        xorl    %eax, %eax
1:      movl    bytes, %ecx
        subl    %edx, %ecx
        shrl    $2, %ecx
        leal    (%edi, %edx), %esi
        addr32 rep movsl
        movl    %edx, %ecx
        shrl    $2, %ecx
        addr32 rep stosl
        jmp     done

do_random:
        call    counted
1:      cmpl    $0, bits
        je      3f
        call    any_place
        call    any
        cmpb    $0, windowed
        je      2f
        call    window_at
        movl    %eax, (%edi)
        jmp     4f
2:      addl    linear, %edi
        movl    %eax, (%edi)
        jmp     4f
3:      call    any
        movl    $CELLS, %edx
        mull    %edx
        leal    TEXT(, %edx, 2), %edi
        call    any_cell
        movw    %ax, (%edi)
4:      decl    count
        jnz     1b
        jmp     done

do_peek:
        call    counted
        movl    count, %eax
        movl    %eax, tried
        movl    $0, same
1:      call    any_place
        call    any
        movl    linear, %esi
        addl    %edi, %esi
        call    window_at
        movl    (%edi), %eax
        cmpl    %eax, (%esi)
        jne     2f
        incl    same
2:      decl    count
        jnz     1b
        movw    $window_is, %si
        call    serial_string
        movl    same, %eax
        call    serial_number
        movl    tried, %eax
        call    serial_number
        call    end_line
        jmp     done

do_frame:
        call    flat
        movl    $TEXT, %esi
        cmpl    $0, bits
        je      1f
        movl    linear, %esi
1:      movl    bytes, %ecx
        shrl    $2, %ecx
        call    crc
        movl    %eax, sum
        movw    $frame_is, %si
        call    serial_string
        movw    $linear, %si
        movw    $6, %cx
2:      lodsl
        call    serial_number
        loop    2b
        call    end_line
        jmp     done

# ---- data ----

serial_set_up:
        .word   0x0100, 0x0380, 0x0001, 0x0100, 0x0303, 0x0207, 0x0403, 0xffff
up:     .asciz  "xenqemu-guest: up screen\r\n"
ended:  .asciz  "xenqemu-guest: end "
frame_is:
        .asciz  "xenqemu-guest: frame="
window_is:
        .asciz  "xenqemu-guest: window="
newline:
        .asciz  "\r\n"
word_mode:
        .asciz  "mode"
word_fill:
        .asciz  "fill"
word_char:
        .asciz  "char"
word_scroll:
        .asciz  "scroll"
word_random:
        .asciz  "random"
word_peek:
        .asciz  "peek"
word_frame:
        .asciz  "frame"

        .balign 4
linear: .long   0                               # in this order `frame` says them
width:  .long   0
height: .long   0
bits:   .long   0
pitch:  .long   0
sum:    .long   0
bytes:  .long   0
font:   .long   0
seed:   .long   0
count:  .long   0
tried:  .long   0
same:   .long   0
column: .long   0
mode:   .word   0
bank:   .word   0
granularity:
        .word   64
windowed:
        .byte   0
lines:  .byte   0
code:   .byte   0
asked:  .skip   9
end:
