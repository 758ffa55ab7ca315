# All the software that the lab's guests run: a boot sector. Four times a second it reads eight sectors of each of the first two
# disks, writes one of them back, and sends one Ethernet frame through an NE2000 PCI card, if there is one; the rest of the time the
# CPU is halted, so that a running guest costs the machine next to nothing. guests.sh assembles it, and writes other numbers to
# `load` where a guest is to do more.
        .intel_syntax noprefix
        .code16
        .globl _start
_start:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        cld
        sti
        # The card's I/O ports, by PCI BIOS: device 10ec:8029, base address register 0.
        mov     ax, 0xb102
        mov     cx, 0x8029
        mov     dx, 0x10ec
        xor     si, si
        int     0x1a
        jc      forever
        mov     ax, 0xb10a
        mov     di, 0x10
        int     0x1a
        and     cx, 0xfffc
        mov     [nic], cx
        mov     si, offset card_setup
        call    registers
        # The frame goes into the card's memory once, through its data port.
        mov     si, offset frame
        mov     dx, [nic]
        add     dx, 0x10
        mov     cx, 32
        rep outsw

forever:
        mov     bp, [rounds]
again:
        mov     dl, 0x80
        call    disk
        mov     dl, 0x81
        call    disk
        cmp     word ptr [nic], 0
        je      1f
        mov     si, offset card_send
        call    registers
1:      dec     bp
        jnz     again
        mov     cx, [halted]
        jcxz    compute
2:      hlt
        loop    2b
compute:                        # up to three times as long, another number of times every 14 seconds
        mov     al, [0x46d]     # of the BIOS' count of timer interrupts
        and     ax, 3
        mul     word ptr [computing]
        xchg    cx, ax
        jcxz    forever
3:      mov     ax, [0x46c]
4:      cmp     ax, [0x46c]
        je      4b
        loop    3b
        jmp     forever

disk:                           # drive dl; a missing one is an error that is not read
        mov     si, offset packet
        mov     ah, 0x42
        int     0x13
        mov     si, offset packet
        mov     ax, 0x4300
        mov     word ptr [si + 2], 1
        int     0x13
        mov     word ptr [packet + 2], 8
        ret

registers:                      # writes the pairs at si (register, value) to the card
        lodsb
        cmp     al, 0xff
        je      2f
        xor     ah, ah
        add     ax, [nic]
        mov     dx, ax
        lodsb
        out     dx, al
        jmp     registers
2:      ret

card_setup:                     # stop; word-wide; accept broadcasts; pages; start; a DMA write of 64 bytes to page 0x40
        .byte   0x00, 0x21,  0x0e, 0x49,  0x0a, 0x00,  0x0b, 0x00,  0x0c, 0x04,  0x0d, 0x00
        .byte   0x04, 0x40,  0x01, 0x46,  0x03, 0x46,  0x02, 0x60,  0x07, 0xff,  0x0f, 0x00
        .byte   0x00, 0x61,  0x07, 0x47,  0x00, 0x22
        .byte   0x08, 0x00,  0x09, 0x40,  0x0a, 0x40,  0x0b, 0x00,  0x00, 0x12,  0xff
card_send:                      # 64 bytes of page 0x40
        .byte   0x04, 0x40,  0x05, 0x40,  0x06, 0x00,  0x00, 0x26,  0xff
packet:                         # extended read or write: 8 sectors to 0x8000, from sector 1 on
        .byte   16, 0
        .word   8, 0, 0x0800
        .quad   1
nic:    .word   0
frame:                          # a broadcast of the type reserved for experiments; what follows does not matter
        .byte   0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  0x52, 0x54, 0, 0, 0, 1,  0x88, 0xb5
        .org    504
load:                           # rounds of requests, then timer interrupts (18.2 a second) halted, then computing
rounds: .word   1
halted: .word   4
computing: .word 0
        .org    510
        .word   0xaa55
