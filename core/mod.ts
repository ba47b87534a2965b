/**
 * The core of vmtape: an event-sourced kernel that knows no x86. Plugin
 * authors need the `define*` vocabulary and fields; hosts need `Kernel`.
 */
export * from "./assert.ts";
export * from "./bytes.ts";
export * from "./cell.ts";
export * from "./clock.ts";
export * from "./composite.ts";
export * from "./containers.ts";
export * from "./errors.ts";
export * from "./event.ts";
export * from "./executor.ts";
export * from "./fields.ts";
export * from "./hook.ts";
export * from "./kernel.ts";
export * from "./keyframe.ts";
export * from "./machine_events.ts";
export * from "./moment.ts";
export * from "./nearest.ts";
export * from "./plugin.ts";
export * from "./random.ts";
export * from "./service.ts";
export * from "./signature.ts";
export * from "./sink.ts";
export * from "./collect.ts";
export * from "./divergence.ts";
export * from "./feeder.ts";
export * from "./recorder.ts";
export * from "./replay_machine.ts";
export * from "./replayer.ts";
export * from "./sidecar.ts";
export * from "./tape/events.ts";
export { type FrameHeader, FrameType, frameTypeName } from "./tape/frames.ts";
export type { LaneEvent } from "./tape/lanes.ts";
export * from "./tape/manifest.ts";
export type {
  CommitRecord,
  DigestRecord,
  InputRecord,
  KeyframeRecord,
  RunEnd,
} from "./tape/payloads.ts";
export * from "./tape/reader.ts";
export * from "./tape/recover.ts";
export type { Damage } from "./tape/scan.ts";
export type { TapeSchema } from "./tape/schema.ts";
export * from "./tape/store.ts";
export type { FrameOut } from "./tape/writer.ts";
export * from "./timeline.ts";
