;; A function that asks WASI for something: with the input `x` and the output `y`, both int64, where
;; y is what the tests put in the place of VALUE. `tests/harness/wasi.rs` does that, and makes a
;; component of it with what is imported of `world.wit`.
(module
  ;; IMPORTS
  (memory (export "memory") 2)

  ;; 64: what INIT keeps. 160: what `init` returns. 192: what `describe` returns. 320: what `call`
  ;; returns. 1024: what imports return. 2048: a text.
  (global $heap (mut i32) (i32.const 0x10000))
  ;; A list of one field each, a mapping of one row to one, and no documentation.
  (data (i32.const 192) "\e0\00\00\00" "\01\00\00\00" "\00\01\00\00" "\01\00\00\00")
  ;; The names of the fields are at 288; their type is the second, and they are not nullable.
  (data (i32.const 224) "\20\01\00\00" "\01\00\00\00" "\01")
  (data (i32.const 256) "\21\01\00\00" "\01\00\00\00" "\01")
  (data (i32.const 288) "xy")
  (data (i32.const 2048) "hello\n")

  (func (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (loop $grow
      (if (i32.gt_u (global.get $heap) (i32.shl (memory.size) (i32.const 16)))
        (then
          (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
          (br $grow))))
    (local.get $at))

  (func (export "wafer:function/transform@0.1.0#load") (param i32 i32 i32 i32 i32))

  (func (export "wafer:function/transform@0.1.0#init") (param i32 i32) (result i32)
    (call $init)
    (i32.const 160))

  (func $init
    ;; INIT
  )

  (func (export "wafer:function/transform@0.1.0#describe") (result i32)
    (i32.const 192))

  (func $value (param $x i64) (result i64)
    ;; VALUE
  )

  (func (export "wafer:function/transform@0.1.0#call")
    (param $rows i32) (param $columns i32) (param $count i32) (result i32)
    (local $at i32)
    (local $end i32)
    (local.set $at (i32.load offset=4 (local.get $columns)))
    (local.set $end (i32.add (local.get $at) (i32.shl (local.get $rows) (i32.const 3))))
    (loop $next
      (i64.store (local.get $at) (call $value (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (i32.store offset=324 (i32.const 0) (local.get $rows))
    (i32.store offset=328 (i32.const 0) (local.get $columns))
    (i32.store offset=332 (i32.const 0) (local.get $count))
    (i32.const 320)))
