;; The smallest interpreter: a function with the input `x` and the output `y`, both int64, where
;;
;;     y = x + the last byte of its last asset + 1000 × how often this instance was called before
;;
;; Its assets stay in its memory, which grows for them. `tests/harness/interpreter.rs` makes a
;; component of it, by the types in `wit/`.
(module
  (memory (export "memory") 6)

  ;; Page 0: what the function keeps.
  (global $heap i32 (i32.const 16))         ;; where memory is free
  (global $asset i32 (i32.const 64))        ;; address and length of the last chunk of an asset
  (global $calls i32 (i32.const 72))        ;; how often it was called
  (global $memory i32 (i32.const 128))      ;; what `read` returns
  (global $initialised i32 (i32.const 160)) ;; what `init` returns: always that all is well
  (global $signature i32 (i32.const 192))   ;; what `describe` returns
  (global $output i32 (i32.const 320))      ;; what `call` returns

  ;; Pages 1 to 4: what `expect` and `write` keep, away from all other memory.
  (global $expects i32 (i32.const 0x12000)) ;; whether a `write` is expected
  (global $next i32 (i32.const 0x12004))    ;; where the address of the next run is
  (global $free i32 (i32.const 0x12008))    ;; where there is room for the next list
  (global $lists i32 (i32.const 0x12010))   ;; 12 bytes for each of 16,384 runs
  (global $kept i32 (i32.const 0x30010))    ;; the size of all this

  ;; The heap begins in page 5.
  (data (i32.const 16) "\00\00\05\00")
  ;; A list of one field each, a mapping of one row to one, and no documentation.
  (data (i32.const 192) "\e0\00\00\00" "\01\00\00\00" "\00\01\00\00" "\01\00\00\00")
  ;; The names of the fields are at 288; their type is the second, and they are not nullable.
  (data (i32.const 224) "\20\01\00\00" "\01\00\00\00" "\01")
  (data (i32.const 256) "\21\01\00\00" "\01\00\00\00" "\01")
  (data (i32.const 288) "xy")

  ;; ---- Memory ----

  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (if (i32.load (global.get $expects))
      (then (return (call $place (local.get $align) (local.get $size)))))
    (call $allocate (local.get $size)))

  ;; Takes memory of the heap, which is never given back.
  (func $allocate (param $size i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local.set $at
      (i32.and (i32.add (i32.load (global.get $heap)) (i32.const 7)) (i32.const -8)))
    (local.set $end (i32.add (local.get $at) (local.get $size)))
    (i32.store (global.get $heap) (local.get $end))
    (call $grow
      (i32.shr_u (i32.add (local.get $end) (i32.const 0xffff)) (i32.const 16)))
    (local.get $at))

  ;; Grows the memory to a number of pages.
  (func $grow (param $pages i32)
    (local.set $pages (i32.sub (local.get $pages) (memory.size)))
    (if (i32.gt_s (local.get $pages) (i32.const 0))
      (then
        (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1))
          (then unreachable)))))

  ;; Says where the host puts what it passes to `write`: lists are what is aligned.
  (func $place (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (local.get $align) (i32.const 1))
      (then
        (local.set $at (i32.load (global.get $free)))
        (i32.store (global.get $free) (i32.add (local.get $at) (local.get $size)))
        (return (local.get $at))))
    (local.set $at (i32.load (i32.load (global.get $next))))
    (i32.store (global.get $next) (i32.add (i32.load (global.get $next)) (i32.const 4)))
    (local.get $at))

  (func (export "wafer:interpreter/memory@0.1.0#read") (result i32)
    (i32.store offset=4 (global.get $memory) (i32.shl (memory.size) (i32.const 16)))
    (global.get $memory))

  (func (export "wafer:interpreter/memory@0.1.0#expect") (param $pages i32)
    (call $grow (local.get $pages))
    (i32.store (global.get $expects) (i32.const 1))
    (i32.store (global.get $next) (global.get $lists))
    (i32.store (global.get $free) (global.get $lists)))

  (func (export "wafer:interpreter/memory@0.1.0#write")
    (param $addresses i32) (param $count i32) (param $runs i32) (param $run_count i32)
    (memory.fill (global.get $expects) (i32.const 0) (global.get $kept)))

  ;; ---- The function ----

  (func (export "wafer:function/transform@0.1.0#load")
    (param $name i32) (param $name_length i32)
    (param $chunk i32) (param $length i32) (param $last i32)
    (i32.store (global.get $asset) (local.get $chunk))
    (i32.store offset=4 (global.get $asset) (local.get $length)))

  (func (export "wafer:function/transform@0.1.0#init")
    (param $parameters i32) (param $count i32) (result i32)
    (global.get $initialised))

  (func (export "wafer:function/transform@0.1.0#describe") (result i32)
    (global.get $signature))

  ;; The values are changed where they are, and the columns that came in are returned.
  (func (export "wafer:function/transform@0.1.0#call")
    (param $rows i32) (param $columns i32) (param $count i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local $more i64)
    (local.set $at (i32.load (global.get $asset)))
    (local.set $end (i32.add (local.get $at) (i32.load offset=4 (global.get $asset))))
    (local.set $more
      (i64.add
        (i64.load8_u (i32.sub (local.get $end) (i32.const 1)))
        (i64.mul (i64.load32_u (global.get $calls)) (i64.const 1000))))
    (i32.store (global.get $calls) (i32.add (i32.load (global.get $calls)) (i32.const 1)))
    (local.set $at (i32.load offset=4 (local.get $columns)))
    (local.set $end (i32.add (local.get $at) (i32.shl (local.get $rows) (i32.const 3))))
    (loop $value
      (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (local.get $more)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $value (i32.lt_u (local.get $at) (local.get $end))))
    (i32.store offset=4 (global.get $output) (local.get $rows))
    (i32.store offset=8 (global.get $output) (local.get $columns))
    (i32.store offset=12 (global.get $output) (local.get $count))
    (global.get $output)))
