// What TypeScript knows of `wafer.js`. The types of rows follow from the columns that are declared.

/** A type of columns: of the values that a function is given, that it returns, and whole columns. */
export interface Type<Given, Returned = Given, Whole = Given[]> {
  /** Returns the type with a description of the column, for the catalog. */
  doc(description: string): Type<Given, Returned, Whole>;
  /** Not there: holds the types. */
  readonly __types?: [Given, Returned, Whole];
}

export type Columns = Record<string, Type<any, any, any>>;
/** A row as a function is given it. */
export type Row<C extends Columns> = { [K in keyof C]: C[K] extends Type<infer Given, any, any> ? Given : never };
/** A row as a function returns it. */
export type Returned<C extends Columns> = { [K in keyof C]: C[K] extends Type<any, infer Out, any> ? Out : never };

type WholeOf<T> = T extends Type<any, any, infer Whole> ? Whole : never;
/** Rows as whole columns. */
export interface Batch<C extends Columns> {
  /** How many rows there are. */
  readonly rows: number;
  /** Numbers, times and days are typed arrays, and have any number where a value is missing. */
  readonly columns: { readonly [K in keyof C]: WholeOf<C[K]> };
  /** For each column 1 where a value is there and 0 where not, or null if all are. */
  readonly valid: { readonly [K in keyof C]: Uint8Array | null };
}
type ReturnedWhole<T> = T extends Type<any, infer Out, infer Whole>
  ? readonly Out[] | Whole | { values: Whole; valid: Uint8Array | null }
  : never;
/** Whole columns as a function returns them. */
export type ReturnedColumns<C extends Columns> = { [K in keyof C]: ReturnedWhole<C[K]> };

/** Assets by name, without the code. */
export type Assets = Readonly<Record<string, Uint8Array>>;
/** Parameters by name, as texts. */
export type Parameters = Readonly<Record<string, string>>;

export declare const types: {
  readonly bool: Type<boolean>;
  /** 64-bit integers. */
  readonly int64: Type<bigint, bigint, BigInt64Array>;
  /** 64-bit integers as numbers. A value from 2^53 on fails its row. */
  readonly safeInt: Type<number, number, Float64Array>;
  readonly float64: Type<number, number, Float64Array>;
  /** 32-bit numbers. A number that is too large for them fails its row. */
  readonly float32: Type<number, number, Float32Array>;
  readonly utf8: Type<string>;
  readonly binary: Type<Uint8Array>;
  /** Microseconds since 1970, UTC. */
  readonly timestamp: Type<bigint, bigint, BigInt64Array>;
  /** Timestamps as `Date`s. One that is no whole millisecond fails its row. */
  readonly dateTime: Type<Date>;
  /** Days, as `Date`s at 00:00 UTC; in whole columns as days since 1970. */
  readonly date: Type<Date, Date, Int32Array>;
  /** Lists of `int64`, `safeInt`, `float64` or `utf8`. */
  list<Item extends bigint | number | string>(item: Type<Item, Item, any>): Type<Item[], ArrayLike<Item> & object>;
  /** Vectors of a fixed number of 32-bit numbers. */
  vector(dimension: number): Type<Float32Array, Float32Array | readonly number[], Float32Array>;
  /** The same type, where values may be missing. */
  nullable<Given, Out, Whole>(type: Type<Given, Out, Whole>): Type<
    Given | null, Out | null, Whole extends (infer Item)[] ? (Item | null)[] : Whole>;
};

interface Declared<In extends Columns, Out extends Columns, State> {
  /** What the function does, for the catalog. */
  doc?: string;
  inputs: In;
  outputs: Out;
  /** Called once, when the function is registered. What it returns is the second argument. */
  init?: (assets: Assets, parameters: Parameters) => State;
}

/** Whole columns: the function returns one value for each row, in the same order. */
export declare function fn<In extends Columns, Out extends Columns, State = undefined>(
  declared: Declared<In, Out, State> & { columns: true },
  code: (batch: Batch<In>, state: State) => ReturnedColumns<Out>,
): (batch: Batch<In>, state?: State) => ReturnedColumns<Out>;
/** Several rows of one: an array of them, or a generator. */
export declare function fn<In extends Columns, Out extends Columns, State = undefined>(
  declared: Declared<In, Out, State> & { many: true },
  code: (row: Row<In>, state: State) => Iterable<Returned<Out>>,
): (row: Row<In>, state?: State) => Iterable<Returned<Out>>;
/** A row or null, which leaves the row out. */
export declare function fn<In extends Columns, Out extends Columns, State = undefined>(
  declared: Declared<In, Out, State> & { filter: true },
  code: (row: Row<In>, state: State) => Returned<Out> | null,
): (row: Row<In>, state?: State) => Returned<Out> | null;
/** One row for each. */
export declare function fn<In extends Columns, Out extends Columns, State = undefined>(
  declared: Declared<In, Out, State>,
  code: (row: Row<In>, state: State) => Returned<Out>,
): (row: Row<In>, state?: State) => Returned<Out>;

/** `"train"`: rows to learn from; `"validation"`: rows to decide, for example, when to stop. */
export type Role = "train" | "validation";

/** What a training produced. */
export interface Trained {
  /** By name. The function that serves the model is given them as assets of these names. */
  artifacts: Record<string, Uint8Array>;
  /** By name, such as `validation_auc`. */
  metrics?: Record<string, number>;
}

export interface Trainer<Rows> {
  /** Takes a chunk of rows. */
  feed(rows: Rows, role: Role): void;
  /** Called when all rows were fed; returns whether to feed them once more. */
  nextPass?(): boolean;
  finish(): Trained;
}

type Class<Rows> = new (assets: Assets, parameters: Parameters) => Trainer<Rows>;

export declare function trainer<C extends Columns, Made extends Class<Batch<C>>>(
  declared: { doc?: string; rows: C; columns: true }, made: Made): Made;
export declare function trainer<C extends Columns, Made extends Class<Row<C>[]>>(
  declared: { doc?: string; rows: C }, made: Made): Made;

/** A function that cannot be one: thrown by an author's `init`, its message is shown as it is. */
export declare class Refused extends Error {}
