# SPDX-License-Identifier: GPL-2.0-or-later
#
# The boot sector guest: what the firmware starts in real mode at 0x7c00. It looks at what the toolstack and the
# device model have made of its machine, and tells it on the screen (INT 10h) and on the serial port, there in lines
# `xenqemu-guest: NAME=VALUE`. The last one begins with `xenqemu-guest: up`. From then on it is a line
# `xenqemu-guest: key=SCANCODE CHARACTER` for each key that is pressed, both in hexadecimal digits.
#
# GNU as, --32. Symbols that --defsym may set: POWEROFF (switch the machine off in the end), UNSIGNED (no boot
# signature), FROM_CD (a CD has started it, and all of it is in memory from the beginning). The sectors behind the code have
# their own number in each of their 32-bit words, see disk_image.py and cd_image.py.

        .code16
        .text
        .globl  _start

        .set    COM1, 0x3f8
        .set    PCI_ADDRESS, 0xcf8
        .set    PCI_DATA, 0xcfc
        .set    SIGNATURE, 0xaa55

        # Memory that the firmware leaves alone, below and above this program.
        .set    LINE, 0x6000                    # the value that is being put together
        .set    VBE_INFO, 0x6200
        .set    E820_ENTRY, 0x6400
        .set    BRAND, 0x6500
        .set    SECTOR, 0xc000
        .set    TICKS, 0x46c                    # of the BIOS, 18 in a second

        .ifdef FROM_CD
        .set    FIRST_PATTERN_SECTOR, 128
        .else
        .set    FIRST_PATTERN_SECTOR, 64
        .endif
        .set    PATTERN_STEP, 248               # 64, 312, ... 1800: all over a disk of 2048 sectors
        .set    PATTERN_COUNT, 8

        # Text attributes: background in the high half, foreground in the low one.
        .set    ON_BLUE, 0x1f
        .set    LABEL, 0x1b
        .set    VALUE, 0x1f
        .set    TITLE, 0x70
        .set    GOOD, 0x1a
        .set    LAST_ROW, 22

_start:
        ljmp    $0, $1f
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $_start, %sp
        sti
        cld
        movb    %dl, drive
        .ifdef FROM_CD
        jmp     main
        .endif
        movw    $packet, %si
        movb    $0x42, %ah
        int     $0x13
        jnc     main
        call    serial_init
        movw    $unreadable, %si
        call    serial_string
        jmp     rest

        .balign 4
packet: .byte   16, 0                           # for INT 13h, AH=42h: size, reserved
        .word   (end - main + 511) / 512, main, 0
        .quad   1
drive:  .byte   0
unreadable:
        .asciz  "xenqemu-guest: error=the boot disk cannot be read\r\n"

# Waits for ever. Not with interrupts off: that is a shutdown to Xen (hvm_hlt() in xen/arch/x86/hvm/hvm.c).
rest:   sti
        hlt
        jmp     rest

serial_init:                                    # 115200 8n1, FIFOs on
        movw    $setup, %si
1:      lodsw
        cmpw    $0xffff, %ax
        je      2f
        movzbw  %ah, %dx
        addw    $COM1, %dx
        outb    %al, %dx
        jmp     1b
2:      ret
setup:  .word   0x0100, 0x0380, 0x0001, 0x0100, 0x0303, 0x0207, 0x0403, 0xffff

serial_char:                                    # %al
        pushw   %dx
        pushw   %ax
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        cmpb    $0xff, %al                      # no such port: nobody to wait for
        je      2f
        testb   $0x20, %al
        jz      1b
2:      movw    $COM1, %dx
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

        .ifndef UNSIGNED
        .org    _start + 510
        .word   SIGNATURE
        .endif
        .org    _start + 512

main:
        call    serial_init
        call    screen_init
        call    report_hypervisor
        call    report_cpu
        call    report_memory
        call    report_disk
        call    report_video
        call    report_sound
        call    report_pci
        call    report_up
        .ifdef POWEROFF
        call    poweroff
        .endif

# What is pressed. The firmware waits with interrupts on.
keys:   xorb    %ah, %ah
        int     $0x16
        pushw   %ax
        movw    $prefix, %si
        call    serial_string
        movw    $key, %si
        call    serial_string
        call    begin
        popw    %ax
        movb    $2, %cl
        rorw    $8, %ax
        call    put_hex
        movb    %ah, %bl
        movb    $' ', %al
        stosb
        movb    %bl, %al
        call    put_hex
        movb    $0, (%di)
        movw    $LINE, %si
        call    serial_string
        movw    $newline, %si
        call    serial_string
        jmp     keys

# ---- putting a value together: %di is where the next character goes ----

begin:  movw    $LINE, %di
        ret

put_string:                                     # %si
        lodsb
        testb   %al, %al
        jz      1f
        stosb
        jmp     put_string
1:      ret

put_bytes:                                      # %eax: four characters, up to a 0
        pushw   %cx
        movw    $4, %cx
1:      testb   %al, %al
        jz      2f
        stosb
        shrl    $8, %eax
        loop    1b
2:      popw    %cx
        ret

put_decimal:                                    # %eax
        pushal
        xorw    %cx, %cx
        movl    $10, %ebx
1:      xorl    %edx, %edx
        divl    %ebx
        pushw   %dx
        incw    %cx
        testl   %eax, %eax
        jnz     1b
2:      popw    %ax
        addb    $'0', %al
        stosb
        loop    2b
        movw    %di, keep
        popal
        movw    keep, %di
        ret

put_hex:                                        # %eax, its first %cl digits counted from the right
        pushal
        movb    %cl, %dl
        movb    $8, %dh
        subb    %cl, %dh
        movb    %dh, %cl
        shlb    $2, %cl
        roll    %cl, %eax
1:      roll    $4, %eax
        pushl   %eax
        andb    $15, %al
        cmpb    $10, %al
        jb      2f
        addb    $'a' - '0' - 10, %al
2:      addb    $'0', %al
        stosb
        popl    %eax
        decb    %dl
        jnz     1b
        movw    %di, keep
        popal
        movw    keep, %di
        ret

# Ends the value; says it on the serial port as %bx (the name) and on the screen behind %bx + its length (the label).
finish:
        movb    $0, (%di)
        movw    $prefix, %si
        call    serial_string
        movw    %bx, %si
        call    serial_string
        pushw   %si
        movb    $'=', %al
        call    serial_char
        movw    $LINE, %si
        call    serial_string
        movw    $newline, %si
        call    serial_string
        popw    %si                             # the label
        cmpb    $LAST_ROW, row
        jae     1f
        movb    $4, column
        movb    $LABEL, attribute
        call    screen_string
        movb    $18, column
        movb    $VALUE, attribute
        movw    $LINE, %si
        call    screen_string
        incb    row
1:      ret

# ---- the screen ----

screen_init:
        movw    $0x0003, %ax                    # 80 by 25, colours
        int     $0x10
        movw    $0x1003, %ax                    # all 16 background colours, no blinking
        xorw    %bx, %bx
        int     $0x10
        movb    $1, %ah                         # no cursor
        movw    $0x2000, %cx
        int     $0x10
        movb    $ON_BLUE, %bh
        xorw    %cx, %cx
        movw    $0x184f, %dx
        call    fill
        movb    $TITLE, %bh
        xorw    %cx, %cx
        movw    $0x004f, %dx
        call    fill
        movb    $TITLE, attribute
        movb    $0, row
        movb    $2, column
        movw    $title, %si
        call    screen_string
        movb    $2, row
        # A bar of the sixteen colours, at the right of the last line.
        movw    $16, %si
        movw    $0x182d, %cx
1:      movw    %si, %ax
        decw    %ax
        shlb    $4, %al
        movb    %al, %bh
        movw    %cx, %dx
        incb    %dl
        call    fill
        addb    $2, %cl
        decw    %si
        jnz     1b
        ret

fill:                                           # %cx to %dx (row, column) with attribute %bh
        pushal
        movw    $0x0600, %ax
        int     $0x10
        popal
        ret

screen_string:                                  # %si, at row, column, with attribute
        pushal
        movw    %si, %bp
        xorw    %cx, %cx
1:      lodsb
        incw    %cx
        testb   %al, %al
        jnz     1b
        decw    %cx
        jz      2f
        movb    row, %dh
        movb    column, %dl
        movb    attribute, %bl
        movb    $0, %bh
        movw    $0x1300, %ax
        int     $0x10
2:      popal
        ret

# ---- what is told ----

report_hypervisor:
        call    begin
        movl    $0x40000000, %eax
1:      pushl   %eax                            # Xen's leaves are further up when it also plays Hyper-V
        cpuid
        cmpl    $0x566e6558, %ebx               # XenVMMXenVMM in %ebx, %ecx, %edx
        jne     2f
        cmpl    $0x65584d4d, %ecx
        jne     2f
        cmpl    $0x4d4d566e, %edx
        je      3f
2:      popl    %eax
        addl    $0x100, %eax
        cmpl    $0x40001000, %eax
        jb      1b
        movw    $no_xen, %si
        call    put_string
        jmp     4f
3:      popl    %eax
        incl    %eax
        pushl   %eax
        cpuid
        pushw   %di
        movw    $xen_version, %di
        pushl   %eax
        shrl    $16, %eax
        call    put_decimal
        movb    $'.', %al
        stosb
        popl    %eax
        movzwl  %ax, %eax
        call    put_decimal
        movb    $0, (%di)
        popw    %di
        movw    $xen_is, %si
        call    put_string
        movw    $xen_version, %si
        call    put_string
        popl    %eax
        cmpl    $0x40000001, %eax
        je      4f
        movw    $behind_another, %si
        call    put_string
4:      movw    $n_hypervisor, %bx
        jmp     finish

report_cpu:
        call    begin
        movl    $0x80000002, %eax
1:      pushl   %eax
        cpuid
        pushl   %edx
        pushl   %ecx
        pushl   %ebx
        call    put_bytes
        popl    %eax
        call    put_bytes
        popl    %eax
        call    put_bytes
        popl    %eax
        call    put_bytes
        popl    %eax
        incl    %eax
        cmpl    $0x80000004, %eax
        jbe     1b
        movw    $n_cpu, %bx
        jmp     finish

report_memory:
        movl    $0, kib
        movw    $0, ranges
        xorl    %ebx, %ebx
1:      movl    $0xe820, %eax
        movl    $0x534d4150, %edx               # SMAP
        movl    $20, %ecx
        movw    $E820_ENTRY, %di
        int     $0x15
        jc      3f
        incw    ranges
        cmpl    $1, E820_ENTRY + 16             # usable
        jne     2f
        movl    E820_ENTRY + 8, %eax            # a range is below 4 GiB in size, or is counted modulo that
        shrl    $10, %eax
        addl    %eax, kib
2:      testl   %ebx, %ebx
        jnz     1b
3:      call    begin
        movl    kib, %eax
        call    put_decimal
        movw    $kib_in, %si
        call    put_string
        movzwl  ranges, %eax
        call    put_decimal
        movw    $ranges_of, %si
        call    put_string
        movw    $n_memory, %bx
        jmp     finish

report_disk:
        movw    $PATTERN_COUNT, %cx
        movl    $FIRST_PATTERN_SECTOR, %ebp
        movw    $0, good
1:      pushw   %cx
        movw    $1, packet + 2
        movw    $SECTOR, packet + 4
        movl    %ebp, %eax
        .ifdef FROM_CD
        shrl    $2, %eax                        # sectors of a CD are four times as large
        .endif
        movl    %eax, packet + 8
        movw    $packet, %si
        movb    drive, %dl
        movb    $0x42, %ah
        int     $0x13
        jc      2f
        movl    %ebp, %eax
        movw    $SECTOR, %di
        movw    $128, %cx
        repe scasl
        jne     2f
        incw    good
2:      addl    $PATTERN_STEP, %ebp
        popw    %cx
        loop    1b
        call    begin
        movzwl  good, %eax
        call    put_decimal
        movw    $of, %si
        call    put_string
        movl    $PATTERN_COUNT, %eax
        call    put_decimal
        movw    $sectors_right, %si
        call    put_string
        movw    $n_disk, %bx
        jmp     finish

report_video:
        call    begin
        movl    $0x32454256, VBE_INFO           # VBE2
        movw    $0x4f00, %ax
        pushw   %di
        movw    $VBE_INFO, %di
        int     $0x10
        popw    %di
        cmpw    $0x004f, %ax
        jne     1f
        cmpl    $0x41534556, VBE_INFO           # VESA
        jne     1f
        movw    $vbe, %si
        call    put_string
        movzbl  VBE_INFO + 5, %eax
        call    put_decimal
        movb    $'.', %al
        stosb
        movzbl  VBE_INFO + 4, %eax
        call    put_decimal
        movw    $comma, %si
        call    put_string
        movzwl  VBE_INFO + 18, %eax             # in units of 64 KiB
        shll    $6, %eax
        call    put_decimal
        movw    $kib_video, %si
        call    put_string
        movw    VBE_INFO + 6, %si               # the name that the VGA BIOS goes by: a far pointer
        movw    VBE_INFO + 8, %ds
        movw    $40, %cx
2:      lodsb
        testb   %al, %al
        jz      3f
        stosb
        loop    2b
3:      pushw   %es
        popw    %ds
        jmp     4f
1:      movw    $no_vga, %si
        call    put_string
4:      movw    $n_video, %bx
        jmp     finish

# Sound cards of the ISA bus, a line for each that is found. Beside asking for what it is, this lets each do something
# that only goes on while a backend takes its sound.
report_sound:
        call    sound_blaster
        call    adlib
        call    sound_system
        jmp     ultrasound

        # Reads \port until a bit of \mask is set there, for a second at most; CF is set when none was.
        .macro  await port:req, mask:req
        movw    $\port, %dx
        movb    $\mask, %ah
        call    await_bits
        .endm
        .macro  output port:req, value:req
        movw    $\port, %dx
        movb    $\value, %al
        outb    %al, %dx
        .endm
        .macro  input port:req
        movw    $\port, %dx
        inb     %dx, %al
        .endm

await_bits:
        movw    TICKS, %si
1:      inb     %dx, %al
        testb   %ah, %al
        jnz     2f
        movw    TICKS, %cx
        subw    %si, %cx
        cmpw    $18, %cx
        jb      1b
        stc
        ret
2:      clc
        ret

# Ends the line of a card, named %si, with what CF says of its test.
sound_line:
        pushfw
        call    begin
        call    put_string
        popfw
        movw    $plays, %si
        jnc     1f
        movw    $stuck, %si
1:      call    put_string
        movw    $n_sound, %bx
        jmp     finish

# The DMA controller reads 256 bytes of memory, whatever is there, on channel \channel of the first controller.
        .macro  dma channel:req, page:req
        output  0x0a, (4+\channel)              # masked
        output  0x0c, 0
        output  0x0b, (0x48+\channel)           # memory to device
        output  (2*\channel), (SECTOR&255)
        output  (2*\channel), (SECTOR>>8)
        output  (2*\channel+1), 255
        output  (2*\channel+1), 0
        output  \page, 0
        output  0x0a, \channel
        .endm

# A DSP that resets; it plays, and says in its mixer that it wants an interrupt for that.
sound_blaster:
        output  0x226, 1
        input   0x226
        input   0x226
        output  0x226, 0
        input   0x22e
        input   0x22a
        cmpb    $0xaa, %al
        jne     no_sound
        dma     1, 0x83
        movw    $dsp_play, %si
1:      lodsb
        movw    $0x22c, %dx
        outb    %al, %dx
        cmpw    $dsp_play_end, %si
        jb      1b
        output  0x224, 0x82                     # interrupt status
        await   0x225, 0x01
        movw    $sb16, %si
        jmp     sound_line
no_sound:
        ret
        # Time constant (11 kHz), speaker on, 8-bit output of 256 bytes.
dsp_play:
        .byte   0x40, 0xa5, 0xd1, 0x14, 0xff, 0x00
dsp_play_end:

# An OPL2, by its first timer.
adlib:
        movw    $opl_clear, %bx
        call    opl
        input   0x388
        testb   $0xe0, %al
        jnz     no_sound
        movw    $opl_start, %bx
        call    opl
        await   0x388, 0x40
        pushfw
        movw    $opl_clear, %bx
        call    opl
        popfw
        jc      no_sound                        # a free bus may have read as 0
        movw    $opl2, %si
        jmp     sound_line
opl:                                            # pairs of register and value, up to register 0, from %bx on
        movw    (%bx), %ax
        testb   %al, %al
        jz      1f
        movw    $0x388, %dx
        outb    %al, %dx
        incw    %dx
        movb    %ah, %al
        outb    %al, %dx
        addw    $2, %bx
        jmp     opl
1:      ret
opl_clear:
        .byte   0x04, 0x60, 0x04, 0x80, 0x00, 0x00
opl_start:
        .byte   0x02, 0xff, 0x04, 0x21, 0x00, 0x00

# A codec of the Windows Sound System, by its number; it plays, and says so in its status.
sound_system:
        output  0x534, 12
        input   0x535
        andb    $0x8f, %al
        cmpb    $0x8a, %al
        jne     no_sound
        dma     3, 0x82
        movw    $wss_play, %si
1:      lodsw
        movw    $0x534, %dx
        outb    %al, %dx
        incw    %dx
        movb    %ah, %al
        outb    %al, %dx
        cmpw    $wss_play_end, %si
        jb      1b
        await   0x536, 0x01
        pushfw
        output  0x534, 9
        output  0x535, 0
        output  0x536, 0
        popfw
        movw    $wss, %si
        jmp     sound_line
        # Registers with bit 6, for a change of mode: 8 bits at 8 kHz, an interrupt after 128 samples, playback.
wss_play:
        .byte   0x48, 0x00, 0x0a, 0x02, 0x0f, 0x80, 0x0e, 0x00, 0x49, 0x05
wss_play_end:

# A Gravis Ultrasound, by its memory; its first timer says that time goes by.
ultrasound:
        movw    $gus_poke, %bx
        call    gus
        output  0x347, 0x5a
        input   0x347
        cmpb    $0x5a, %al
        jne     no_sound
        output  0x347, 0xa5
        input   0x347
        cmpb    $0xa5, %al
        jne     no_sound
        movw    $gus_start, %bx
        call    gus
        output  0x248, 0x04
        output  0x249, 0x01
        await   0x246, 0x04
        pushfw
        output  0x249, 0x80
        movw    $gus_clear, %bx
        call    gus
        popfw
        movw    $gus_name, %si
        jmp     sound_line
gus:                                            # as opl, with registers of the synthesizer
        movw    (%bx), %ax
        testb   %al, %al
        jz      1f
        movw    $0x343, %dx
        outb    %al, %dx
        addw    $2, %dx
        movb    %ah, %al
        outb    %al, %dx
        addw    $2, %bx
        jmp     gus
1:      ret
        # Out of reset, memory from the address 0 on (its lower byte is a port that resets to it).
gus_poke:
        .byte   0x4c, 0x00, 0x4c, 0x01, 0x43, 0x00, 0x44, 0x00, 0x00, 0x00
gus_start:
        .byte   0x46, 0x80, 0x45, 0x04, 0x00, 0x00
gus_clear:
        .byte   0x45, 0x00, 0x4c, 0x00, 0x00, 0x00

report_pci:
        xorl    %ebp, %ebp                      # device and function
        movw    $0, devices
        movw    $n_pci, pci_name
1:      movl    %ebp, %eax
        xorb    %bl, %bl
        call    pci_read
        cmpw    $0xffff, %ax
        je      4f
        incw    devices
        movl    %eax, %esi
        call    begin
        pushl   %esi
        movl    %ebp, %eax
        shrl    $3, %eax
        movb    $2, %cl
        call    put_hex
        movb    $'.', %al
        stosb
        movl    %ebp, %eax
        andl    $7, %eax
        movb    $1, %cl
        call    put_hex
        movb    $' ', %al
        stosb
        popl    %eax
        movb    $4, %cl
        call    put_hex
        pushl   %eax
        movb    $':', %al
        stosb
        popl    %eax
        shrl    $16, %eax
        call    put_hex
        movb    $' ', %al
        stosb
        movb    $8, %bl                         # class in the upper half
        call    pci_read
        shrl    $16, %eax
        movw    %ax, %dx
        movw    $classes, %si
2:      lodsw
        testw   %ax, %ax
        jz      3f
        cmpw    %dx, %ax
        je      3f
5:      lodsb
        testb   %al, %al
        jnz     5b
        jmp     2b
3:      call    put_string
        movw    pci_name, %bx
        call    finish
        movw    $n_pci_more, pci_name
4:      incw    %bp
        cmpw    $256, %bp
        jb      1b
        ret

pci_read:                                       # %ebp: device and function of bus 0; %bl: register; to %eax
        pushw   %dx
        movl    %ebp, %eax
        shll    $8, %eax
        orl     $0x80000000, %eax
        movb    %bl, %al
        movw    $PCI_ADDRESS, %dx
        outl    %eax, %dx
        movw    $PCI_DATA, %dx
        inl     %dx, %eax
        popw    %dx
        ret

report_up:
        movw    $prefix, %si
        call    serial_string
        call    begin
        movw    $up_xen, %si
        call    put_string
        movw    $xen_version, %si
        call    put_string
        movw    $up_memory, %si
        call    put_string
        movl    kib, %eax
        call    put_decimal
        movw    $up_disk, %si
        call    put_string
        movw    $bad, %si
        cmpw    $PATTERN_COUNT, good
        jne     1f
        movw    $ok, %si
1:      call    put_string
        movw    $up_pci, %si
        call    put_string
        movzwl  devices, %eax
        call    put_decimal
        movb    $0, (%di)
        movb    $23, row
        movb    $4, column
        movb    $GOOD, attribute
        movw    $LINE, %si
        call    screen_string
        movw    $LINE, %si
        call    serial_string
        movw    $newline, %si
        jmp     serial_string

        .ifdef POWEROFF
# ACPI's S5, through the power management function of the PIIX4 (acpi_pm1_cnt_write() in QEMU's hw/acpi/core.c).
poweroff:
        xorl    %ebp, %ebp
1:      xorb    %bl, %bl
        call    pci_read
        cmpl    $0x71138086, %eax
        je      2f
        incw    %bp
        cmpw    $256, %bp
        jb      1b
        ret
2:      movb    $0x40, %bl
        call    pci_read
        andw    $0xffc0, %ax
        addw    $4, %ax
        movw    %ax, %dx
        movw    $0x2000, %ax
        outw    %ax, %dx
        ret
        .endif

title:          .asciz  "xenqemu   boot sector guest"
prefix:         .asciz  "xenqemu-guest: "
newline:        .asciz  "\r\n"
# Name on the serial port, then label on the screen.
n_hypervisor:   .asciz  "hypervisor", "Hypervisor"
n_cpu:          .asciz  "cpu", "Processor"
n_memory:       .asciz  "memory", "Memory"
n_disk:         .asciz  "disk", "Disk"
n_video:        .asciz  "video", "Video"
n_sound:        .asciz  "sound", "Sound"
n_pci:          .asciz  "pci", "PCI"
n_pci_more:     .asciz  "pci", ""
xen_is:         .asciz  "XenVMMXenVMM, Xen "
behind_another: .asciz  " behind another interface"
no_xen:         .asciz  "none, or not Xen"
kib_in:         .asciz  " KiB usable, "
ranges_of:      .asciz  " ranges by E820"
of:             .asciz  " of "
sectors_right:  .asciz  " sectors read and right"
vbe:            .asciz  "VBE "
comma:          .asciz  ", "
kib_video:      .asciz  " KiB, "
no_vga:         .asciz  "none"
key:            .asciz  "key="
sb16:           .asciz  "Sound Blaster 16"
opl2:           .asciz  "AdLib"
wss:            .asciz  "Windows Sound System"
gus_name:       .asciz  "Gravis Ultrasound"
plays:          .asciz  ", plays"
stuck:          .asciz  ", does not play"
up_xen:         .asciz  "up xen="
up_memory:      .asciz  " memory="
        .ifdef FROM_CD
up_disk:        .asciz  " cdrom="
        .else
up_disk:        .asciz  " disk="
        .endif
up_pci:         .asciz  " pci="
ok:             .asciz  "ok"
bad:            .asciz  "bad"

        .macro  class code:req, text:req
        .word   \code
        .asciz  "\text"
        .endm
classes:
        class   0x0100, "SCSI controller"
        class   0x0101, "IDE controller"
        class   0x0106, "SATA controller"
        class   0x0200, "network card"
        class   0x0300, "VGA"
        class   0x0401, "audio"
        class   0x0403, "audio"
        class   0x0600, "host bridge"
        class   0x0601, "ISA bridge"
        class   0x0680, "power management"
        class   0x0c03, "USB controller"
        class   0xff80, "Xen platform device"
        .word   0
        .byte   0

        .balign 4
kib:            .long   0
keep:           .word   0
ranges:         .word   0
good:           .word   0
devices:        .word   0
pci_name:       .word   0
row:            .byte   0
column:         .byte   0
attribute:      .byte   0
xen_version:    .asciz  "none"
                .skip   12
end:
        .balign 512
